//! Writes the manual page of every command, and the completions of three shells, into a folder.
//!
//! An example of the crate, run when a package is built: what it links stays out of the gateway.
//!
//!     cargo run --example manuals -- FOLDER

use std::fs;
use std::io;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: manuals FOLDER"));
    };
    let manuals = folder.join("man");
    fs::create_dir_all(&manuals)?;
    clap_mangen::generate_to(countersign::cli::command(), &manuals)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(
            shell,
            &mut countersign::cli::command(),
            "countersign",
            &folder,
        )?;
    }
    Ok(())
}
