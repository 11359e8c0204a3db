//! A real server of HTTP on loopback that behaves as a test says, and keeps what it was asked.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it does with each request.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    Redirect(String),
    /// It reads all, and says nothing.
    Hang,
    /// What is no HTTP.
    Rubbish,
    /// A head that never ends, a byte now and then.
    Drip,
    /// It closes at once.
    Close,
    /// A good status, and a body without end.
    Endless,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub struct Receiver {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let (answer, asked, over) = shared;
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let answer = answer.lock().unwrap().clone();
                let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
                std::thread::spawn(move || serve(stream, &answer, &asked, &over));
            }
        });
        Self {
            port,
            answer,
            asked,
            over,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn becomes(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What it was asked so far; it forgets that.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It waits for somebody.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, asked: &Mutex<Vec<Asked>>, over: &AtomicBool) {
    if matches!(answer, Answer::Close) {
        return;
    }
    let Some(request) = read(&mut stream) else {
        return;
    };
    asked.lock().unwrap().push(request);
    let head = |status: u16, more: &str| {
        format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n{more}\r\n")
    };
    let _ = match answer {
        Answer::Status(status) => stream.write_all(head(*status, "").as_bytes()),
        Answer::Redirect(to) => {
            stream.write_all(head(307, &format!("location: {to}\r\n")).as_bytes())
        }
        Answer::Rubbish => stream.write_all(&[0xff; 4096]),
        Answer::Hang => repeat(&mut stream, b"", over),
        Answer::Drip => repeat(&mut stream, b"x: y\r\n", over),
        Answer::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            repeat(&mut stream, &[b'x'; 4096], over)
        }
        Answer::Close => Ok(()),
    };
}

/// Goes on until the other side is gone, or the test is over.
fn repeat(stream: &mut TcpStream, words: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    if words == b"x: y\r\n" {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
    }
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !over.load(Ordering::Relaxed) {
        stream.write_all(words)?;
        match stream.read(&mut [0; 16]) {
            Ok(0) => break,
            _ => continue,
        }
    }
    Ok(())
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let headers: BTreeMap<String, String> = headers.collect();
    let length = headers
        .get("content-length")
        .map_or(0, |text| text.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&buffer[..count]);
    }
    Some(Asked {
        line,
        headers,
        body: String::from_utf8(body).ok()?,
    })
}
