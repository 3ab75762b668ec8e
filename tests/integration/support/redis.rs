//! A Redis or Valkey server of a test's own, in a temporary folder, gone when the test is over.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::gateway::wait_for;
use super::process::free_address;

/// What keeps every acknowledged write through a crash.
pub const DURABLE: &str = "appendonly yes\nappendfsync always\n";

pub struct Redis {
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
    settings: String,
    child: Option<Child>,
}

impl Redis {
    /// A server with these lines of configuration, once it answers.
    pub fn start(settings: &str) -> Redis {
        Redis::start_at(free_address(), settings)
    }

    /// A server on this address of 127.0.0.1; with `port 0` in the settings, it listens with TLS
    /// alone.
    pub fn start_at(address: SocketAddr, settings: &str) -> Redis {
        let folder = tempfile::tempdir().unwrap();
        let mut redis = Redis {
            address,
            settings: settings.replace("FOLDER", folder.path().to_str().unwrap()),
            folder,
            child: None,
        };
        redis.spawn();
        redis
    }

    /// Starts it, with the data that it left behind.
    pub fn spawn(&mut self) {
        let file = self.folder.path().join("redis.conf");
        let port = match self.settings.contains("tls-port") {
            true => String::new(),
            false => format!("port {}\n", self.address.port()),
        };
        let text = format!(
            "bind 127.0.0.1\n{port}dir {}\nsave \"\"\n{}",
            self.folder.path().display(),
            self.settings
        );
        fs::write(&file, text).unwrap();
        // The server's binary has several names. Debian's package of this one comes without a
        // service that would start a server at once. REDIS_SERVER may name Valkey's.
        #[allow(clippy::disallowed_methods, reason = "which server to test with")]
        let server = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-check-rdb".into());
        let child = Command::new(&server)
            .arg0("redis-server")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{server}: {error}; see scripts/setup"));
        self.child = Some(child);
        wait_for("the server's socket", || {
            TcpStream::connect(self.address).ok()
        });
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Ends it as a power failure would, as far as one process can.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Deletes what a stopped server has left behind.
    pub fn forget(&self) {
        assert!(self.child.is_none(), "it still runs");
        let _ = fs::remove_dir_all(self.append_only());
        let _ = fs::remove_file(self.folder.path().join("dump.rdb"));
    }

    /// The files of its data, by name, as they are now.
    pub fn data(&self) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let entries = fs::read_dir(self.append_only()).unwrap();
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name(), fs::read(entry.path()).unwrap())
        };
        entries.map(read).collect()
    }

    /// Gives a stopped server its data of an earlier moment back.
    pub fn restore(&self, data: &[(std::ffi::OsString, Vec<u8>)]) {
        assert!(self.child.is_none(), "it still runs");
        for (name, bytes) in data {
            fs::write(self.append_only().join(name), bytes).unwrap();
        }
    }

    fn append_only(&self) -> std::path::PathBuf {
        self.folder.path().join("appendonlydir")
    }

    /// Sends one command in words and returns the first line of the answer, without its mark.
    pub fn command(&self, words: &[&str]) -> String {
        self.commands(&[words])
    }

    /// Sends several, one after the other, and returns the first line of the last answer.
    pub fn commands(&self, commands: &[&[&str]]) -> String {
        let mut stream = BufReader::new(TcpStream::connect(self.address).unwrap());
        (stream.get_ref())
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut line = String::new();
        for words in commands {
            let mut text = format!("*{}\r\n", words.len());
            for word in *words {
                text += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.get_mut().write_all(text.as_bytes()).unwrap();
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(length) = line.strip_prefix('$') {
                let length: i64 = length.trim_end().parse().unwrap();
                let mut bulk = vec![0; usize::try_from(length + 2).unwrap_or(0)];
                stream.read_exact(&mut bulk).unwrap();
                line = format!("${}", String::from_utf8_lossy(&bulk));
            }
        }
        line.trim_end()[1..].to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
