//! A client that sends exactly the bytes it is given, and checks what must hold for every answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// One connection to the gateway.
pub struct Client {
    reader: BufReader<TcpStream>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap()
    }

    /// One that waits this long for each piece of an answer.
    pub fn connect_for(address: SocketAddr, patience: Duration) -> Client {
        let client = Client::connect(address);
        client
            .reader
            .get_ref()
            .set_read_timeout(Some(patience))
            .unwrap();
        client
    }

    /// `None` where nobody listens.
    pub fn try_connect(address: SocketAddr) -> Option<Client> {
        TcpStream::connect(address).ok().map(Client::over)
    }

    /// Over a connection that was made in another way.
    pub fn over(stream: TcpStream) -> Client {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            reader: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // The gateway may have answered and closed already; what it answered is what counts.
        let _ = self.reader.get_mut().write_all(bytes);
    }

    pub fn exchange(&mut self, bytes: &[u8]) -> Response {
        self.send(bytes);
        self.receive()
    }

    /// Reads one final response; interim ones are skipped.
    pub fn receive(&mut self) -> Response {
        self.try_receive(false).expect("an answer")
    }

    /// Reads the response to a HEAD request.
    pub fn receive_head(&mut self) -> Response {
        self.try_receive(true).expect("an answer")
    }

    /// `None` where the connection ends without an answer.
    pub fn try_receive(&mut self, head: bool) -> Option<Response> {
        loop {
            let response = read_response(&mut self.reader, head)?;
            if response.status >= 200 {
                response.check();
                return Some(response);
            }
        }
    }

    /// Reads one response, interim or final.
    pub fn receive_any(&mut self) -> Option<Response> {
        read_response(&mut self.reader, false)
    }

    /// Whether the gateway closes the connection, in order, without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.reader.read_to_end(&mut rest), Ok(0))
    }
}

/// Sends one request on a connection of its own.
pub fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    Client::connect(address).exchange(bytes.as_ref())
}

impl Response {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The code of a refusal; empty for any other answer.
    pub fn code(&self) -> String {
        serde_json::from_slice::<Value>(&self.body)
            .ok()
            .and_then(|body| body["code"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// The invariants of every answer.
    fn check(&self) {
        assert_eq!(self.all("x-request-id").len(), 1, "{self:?}");
        assert_eq!(self.all("cache-control"), ["no-store"], "{self:?}");
        assert_eq!(self.all("date").len(), 1, "{self:?}");
        let code = self.code();
        if code.is_empty() {
            return;
        }
        let body = self.json();
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()));
        match body["errors"].as_array().map(Vec::as_slice) {
            Some([only]) => assert_eq!(*only, body["error"]),
            several => {
                let count = several.map_or(0, <[Value]>::len);
                let told = format!("There are {count} mistakes; `errors` has each.");
                assert_eq!(body["error"], *told);
            }
        }
        assert_eq!(body["request_id"], *self.header("x-request-id").unwrap());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let challenge = self.header("www-authenticate");
        assert_eq!(challenge, (self.status == 401).then_some("Countersign"));
        assert_eq!(body.get("server_time").is_some(), code == "clock_skew");
    }
}

fn read_response(reader: &mut BufReader<TcpStream>, head: bool) -> Option<Response> {
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return None;
    }
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let bodiless = head || status < 200 || status == 204 || status == 304;
    if !bodiless {
        let length = response
            .header("content-length")
            .map(|v| v.parse::<usize>().unwrap());
        match length {
            Some(length) => {
                let mut body = vec![0; length];
                reader.read_exact(&mut body).ok()?;
                response.body = body;
            }
            None if response.header("transfer-encoding") == Some("chunked") => {
                response.body = read_chunks(reader)?;
            }
            None => {
                reader.read_to_end(&mut response.body).ok()?;
            }
        }
    }
    Some(response)
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
