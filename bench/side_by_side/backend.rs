//! The backend that all contenders share: nginx with a static answer. Its CPU counts for nobody.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::process::Process;
use crate::support::free_address;

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    status: SocketAddr,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Backend {
    pub(crate) fn start() -> Backend {
        let folder = tempfile::tempdir().unwrap();
        let (address, status) = (free_address(), free_address());
        let text = include_str!("conf/backend.conf")
            .replace("@FOLDER@", folder.path().to_str().unwrap())
            .replace("@BACKEND@", &address.to_string())
            .replace("@STATUS@", &status.to_string());
        let file = folder.path().join("backend.conf");
        fs::write(&file, text).unwrap();
        let process = Process::spawn("backend", Command::new("nginx").arg("-c").arg(&file));
        crate::contender::wait_for_port(address);
        Backend {
            address,
            status,
            _process: process,
            _folder: folder,
        }
    }

    /// How many requests have reached it so far. The question is one itself.
    pub(crate) fn requests(&self) -> u64 {
        let mut stream = TcpStream::connect(self.status).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        // "server accepts handled requests", and below it the three numbers.
        let mut lines = text
            .lines()
            .skip_while(|line| !line.starts_with("server accepts"));
        let numbers = lines.nth(1).unwrap();
        numbers.split_whitespace().nth(2).unwrap().parse().unwrap()
    }
}
