//! A proxy before a real server that does to requests and answers what networks and stores do:
//! refuses, breaks off, loses, cuts, changes, delays. What it does is drawn from a seed; what it
//! has seen is kept, so that tests can say which requests are made, and how many.

use crate::support::model::Chance;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done to a request or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this status and code, and not passed on.
    Refused(u16, &'static str),
    /// The connection breaks before it is passed on.
    Reset,
    /// It is passed on, and the connection breaks before the answer.
    ReplyLost,
    /// Half of the answer's body comes.
    CutShort,
    /// One byte of the answer's body is another.
    WrongByte,
    /// It is not passed on, and "done" is said, with an error in the body.
    ErrorIn200,
    /// The answer comes later.
    Late,
    /// No answer comes.
    Silence,
}

/// Most of what a network may do; after the right number of tries an operation is done.
pub const USUAL: &[Fault] = &[
    Fault::Refused(500, "InternalError"),
    Fault::Refused(503, "SlowDown"),
    Fault::Refused(429, "TooManyRequests"),
    Fault::Refused(409, "OperationAborted"),
    Fault::Refused(403, "RequestThrottled"),
    Fault::Reset,
    Fault::ReplyLost,
    Fault::CutShort,
    Fault::Late,
];

/// Faults after which "done" is not to be believed.
pub const LIES: &[Fault] = &[Fault::WrongByte, Fault::ErrorIn200];

/// A request as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// Which faults, and how often.
pub struct Plan {
    pub seed: u64,
    /// Of a hundred requests.
    pub percent: u64,
    pub faults: Vec<Fault>,
}

/// The proxy.
pub struct Proxy {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    inner: Arc<Inner>,
    address: SocketAddr,
}

struct Inner {
    upstream: SocketAddr,
    plan: Mutex<(Chance, Plan)>,
    calm: AtomicBool,
    archives: AtomicBool,
    ended: AtomicBool,
    done: AtomicU64,
    /// Bytes of bodies of answers.
    answered: AtomicU64,
    /// What is answered to queries of this name, in the store's place.
    canned: Mutex<Option<(&'static str, String)>>,
    /// What is answered by a status and a code, in the store's place.
    refusing: Mutex<Option<Box<Refusing>>>,
    seen: Mutex<Vec<Seen>>,
    held: Mutex<Option<Hold>>,
}

/// The status and code that a request with this body is answered with.
type Refusing = dyn Fn(&Seen, &[u8]) -> Option<(u16, &'static str)> + Send;

/// A request that is told of, and not answered.
struct Hold {
    /// How many requests come before it.
    before: usize,
    /// Whether the store gets it.
    passed_on: bool,
    tell: Sender<()>,
}

impl Proxy {
    /// Before the server at `endpoint`.
    pub fn start(endpoint: &str, plan: Plan) -> Self {
        let upstream = endpoint.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            upstream,
            plan: Mutex::new((Chance(plan.seed), plan)),
            calm: AtomicBool::new(false),
            archives: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            done: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            canned: Mutex::default(),
            refusing: Mutex::default(),
            seen: Mutex::default(),
            held: Mutex::default(),
        });
        let serving = Arc::clone(&inner);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(connection));
            }
        });
        Self {
            endpoint: format!("http://{address}"),
            inner,
            address,
        }
    }

    /// From now on nothing is done to requests, or is again.
    pub fn calm(&self, calm: bool) {
        self.inner.calm.store(calm, Ordering::SeqCst);
    }

    /// From now on segments lie in an archive, or not any more.
    pub fn archive(&self, archives: bool) {
        self.inner.archives.store(archives, Ordering::SeqCst);
    }

    /// From now on so many of a hundred requests meet a fault.
    pub fn worse(&self, percent: u64) {
        self.inner.plan.lock().unwrap().1.percent = percent;
    }

    /// How many faults there were.
    pub fn faults(&self) -> u64 {
        self.inner.done.load(Ordering::SeqCst)
    }

    /// Holds the request after the next `before`, and all after it: they are not answered, and
    /// are not passed on, but that the held one is if `passed_on`. Says when it came.
    pub fn hold(&self, before: usize, passed_on: bool) -> Receiver<()> {
        let (tell, told) = channel();
        *self.inner.held.lock().unwrap() = Some(Hold {
            before,
            passed_on,
            tell,
        });
        told
    }

    /// Holds no more.
    pub fn let_go(&self) {
        self.inner.held.lock().unwrap().take();
    }

    /// From now on a query of this name is answered so, and not passed on.
    pub fn answer_to(&self, query: &'static str, body: &str) {
        *self.inner.canned.lock().unwrap() = Some((query, body.to_owned()));
    }

    /// From now on what this says is answered so, and not passed on.
    pub fn refuse(
        &self,
        which: impl Fn(&Seen, &[u8]) -> Option<(u16, &'static str)> + Send + 'static,
    ) {
        *self.inner.refusing.lock().unwrap() = Some(Box::new(which));
    }

    /// How many bytes of bodies were answered since the last call.
    pub fn answered(&self) -> u64 {
        self.inner.answered.swap(0, Ordering::SeqCst)
    }

    /// What was asked since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.inner.seen.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.address);
    }
}

/// A request or an answer.
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    /// Reads one; `None` when the connection has ended. An answer to `HEAD` has no body.
    fn read(from: &mut impl BufRead, has_body: bool) -> Option<Self> {
        let line = |from: &mut dyn BufRead| {
            let mut line = String::new();
            let read = from.read_line(&mut line).ok()?;
            (read > 0).then(|| line.trim_end().to_owned())
        };
        let first = line(from)?;
        let mut headers = Vec::new();
        loop {
            let text = line(from)?;
            let Some((name, value)) = text.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let find = |name: &str| {
            let mut all = headers.iter();
            all.find_map(|(key, value)| (key == name).then(|| value.clone()))
        };
        let mut body = Vec::new();
        if !has_body {
        } else if find("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(line(from)?.trim(), 16).ok()?;
                let mut chunk = vec![0; size];
                from.read_exact(&mut chunk).ok()?;
                line(from)?;
                if size == 0 {
                    break;
                }
                body.extend(chunk);
            }
        } else if let Some(length) = find("content-length") {
            body = vec![0; length.parse().ok()?];
            from.read_exact(&mut body).ok()?;
        }
        Some(Self {
            first,
            headers,
            body,
        })
    }

    /// Writes it, with the length of its body where it says one; `part` of its body.
    fn write(&self, to: &mut TcpStream, part: usize, is_head: bool) -> std::io::Result<()> {
        let mut head = format!("{}\r\n", self.first);
        let ours = ["transfer-encoding", "connection", "content-length"];
        for (name, value) in &self.headers {
            let kept = !ours.contains(&name.as_str()) || is_head && name == "content-length";
            if kept {
                head += &format!("{name}: {value}\r\n");
            }
        }
        if !is_head {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        to.write_all(format!("{head}\r\n").as_bytes())?;
        to.write_all(&self.body[..part])
    }
}

/// The clock of a store that refuses.
pub const DATE: &str = "Sun, 29 Nov 2020 12:00:00 GMT";

fn refusal(status: u16, code: &str, is_head: bool) -> Message {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code>\
         <Message>as the test says</Message><StorageClass>GLACIER</StorageClass></Error>"
    );
    Message {
        first: format!("HTTP/1.1 {status} X"),
        headers: [("content-type", "application/xml"), ("date", DATE)]
            .into_iter()
            // From any other the client would learn that time.
            .filter(|(name, _)| *name != "date" || code == "RequestTimeTooSkewed")
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        body: if is_head || code.is_empty() {
            Vec::new()
        } else {
            body.into_bytes()
        },
    }
}

impl Inner {
    fn fault(&self) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        let (chance, plan) = &mut *plan;
        if self.calm.load(Ordering::SeqCst) || chance.below(100) >= plan.percent {
            return None;
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        let which = chance.below(plan.faults.len() as u64);
        Some(plan.faults[which as usize])
    }

    /// Whether a request is held; it is passed on before that is told.
    fn is_held(&self, request: &Message) -> bool {
        let mut held = self.held.lock().unwrap();
        let Some(hold) = held.as_mut() else {
            return false;
        };
        if hold.before > 0 {
            hold.before -= 1;
            return false;
        }
        if std::mem::take(&mut hold.passed_on) {
            let mut upstream = TcpStream::connect(self.upstream).unwrap();
            let whole = request.body.len();
            request.write(&mut upstream, whole, false).unwrap();
            Message::read(
                &mut BufReader::new(upstream),
                !request.first.starts_with("HEAD"),
            );
        }
        // Nobody listens any more after the first.
        let _ = hold.tell.send(());
        true
    }

    fn serve(&self, mut client: TcpStream) {
        let Ok(reading) = client.try_clone() else {
            return;
        };
        let mut reading = BufReader::new(reading);
        while let Some(request) = Message::read(&mut reading, true) {
            if self.answer(&request, &mut client).is_none() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }

    /// Answers one request; `None`: the connection is to break.
    fn answer(&self, request: &Message, client: &mut TcpStream) -> Option<()> {
        let mut words = request.first.split(' ');
        let method = words.next()?.to_owned();
        let is_head = method == "HEAD";
        let seen = Seen {
            method,
            path: words.next()?.to_owned(),
            headers: request.headers.clone(),
            body: request.body.len(),
        };
        let refusing = self.refusing.lock().unwrap();
        let refused = refusing
            .as_ref()
            .and_then(|which| which(&seen, &request.body));
        drop(refusing);
        self.seen.lock().unwrap().push(seen);
        if let Some((status, code)) = refused {
            return self.refuse(&refusal(status, code, is_head), client);
        }
        if self.is_held(request) {
            // Until the client is gone.
            let _ = client.read(&mut [0]);
            return None;
        }
        let canned = self.canned.lock().unwrap().clone();
        if let Some((query, body)) = canned
            && request.first.contains(&format!("?{query}"))
        {
            let answer = Message {
                first: "HTTP/1.1 200 OK".into(),
                headers: vec![("content-type".into(), "application/xml".into())],
                body: body.into_bytes(),
            };
            return self.refuse(&answer, client);
        }
        let is_segment = request.first.starts_with("GET") && request.first.contains("/segments/");
        if self.archives.load(Ordering::SeqCst) && is_segment {
            let refusal = refusal(403, "InvalidObjectState", false);
            return refusal.write(client, refusal.body.len(), false).ok();
        }
        let fault = self.fault();
        match fault {
            Some(Fault::Refused(status, code)) => {
                let refusal = refusal(status, code, is_head);
                return self.refuse(&refusal, client);
            }
            Some(Fault::ErrorIn200) => {
                let refusal = refusal(200, "InternalError", is_head);
                return self.refuse(&refusal, client);
            }
            Some(Fault::Reset) => return None,
            Some(Fault::Silence) => {
                // Until the client has had enough.
                let _ = client.read(&mut [0]);
                return None;
            }
            Some(Fault::Late) => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        let mut upstream = TcpStream::connect(self.upstream).ok()?;
        request
            .write(&mut upstream, request.body.len(), false)
            .ok()?;
        let mut answer = Message::read(&mut BufReader::new(upstream), !is_head)?;
        match fault {
            Some(Fault::ReplyLost) => return None,
            Some(Fault::CutShort) if !answer.body.is_empty() => {
                let half = answer.body.len() / 2;
                self.answered.fetch_add(half as u64, Ordering::SeqCst);
                let _ = answer.write(client, half, is_head);
                return None;
            }
            Some(Fault::WrongByte) if !answer.body.is_empty() => {
                let at = answer.body.len() / 3;
                answer.body[at] ^= 0x10;
            }
            _ => {}
        }
        let all = answer.body.len();
        self.answered.fetch_add(all as u64, Ordering::SeqCst);
        answer.write(client, all, is_head).ok()
    }

    fn refuse(&self, refusal: &Message, client: &mut TcpStream) -> Option<()> {
        let all = refusal.body.len();
        self.answered.fetch_add(all as u64, Ordering::SeqCst);
        refusal.write(client, all, false).ok()
    }
}
