//! What a client and the server agree on before the first request. All that a client says here is
//! bounded in length, number and time.

use super::certificates::ServerCertificates;
use super::heard::{Gone, Heard};
use super::protocol::*;
use super::socket::ClientSocket;
use super::trouble::Troubles;
use crate::export::nbd_disk::NbdDisk;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most options of one client.
const MOST_OPTIONS: usize = 4096;
/// Most bytes that go with an option: the longest name, and some queries.
const MOST_OPTION: u32 = 16 << 10;
/// How long a client may take to hear an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The only context that there is, and its number.
const ALLOCATION: &str = "base:allocation";
pub const ALLOCATION_ID: u32 = 1;
/// The longest request to write, and the longest to read that is recommended.
pub const MOST_REQUEST: u32 = 32 << 20;
/// What a disk is best read in.
const PREFERRED: u32 = 64 << 10;

/// What was agreed on.
pub struct Agreed {
    pub disk: Arc<NbdDisk>,
    pub style: HeaderStyle,
    /// The client may ask what is data.
    pub tells_allocation: bool,
}

/// Talks with a client until it goes on to requests, for as long as `limit` at most.
pub fn shake_hands(
    socket: &ClientSocket,
    served: &ServedThings<'_>,
    limit: Duration,
) -> Heard<Agreed> {
    let mut talk = Talk {
        socket,
        disks: served.disks,
        certificates: served.certificates,
        troubles: served.troubles,
        is_secured: false,
        until: Instant::now() + limit,
        style: HeaderStyle::default(),
        no_zeroes: false,
        context: None,
    };
    talk.greet()?;
    for _ in 0..MOST_OPTIONS {
        if let Some(disk) = talk.hear_option()? {
            let tells = talk.context.as_ref();
            return Ok(Agreed {
                tells_allocation: tells.is_some_and(|of| Arc::ptr_eq(of, &disk)),
                style: talk.style,
                disk,
            });
        }
    }
    Err(Gone)
}

/// What a server has for its clients.
pub struct ServedThings<'a> {
    pub disks: &'a [Arc<NbdDisk>],
    /// `Some`: nothing is said without TLS.
    pub certificates: Option<&'a ServerCertificates>,
    /// Where it is told what goes wrong.
    pub troubles: &'a Troubles,
}

struct Talk<'a> {
    socket: &'a ClientSocket,
    disks: &'a [Arc<NbdDisk>],
    certificates: Option<&'a ServerCertificates>,
    troubles: &'a Troubles,
    is_secured: bool,
    until: Instant,
    style: HeaderStyle,
    no_zeroes: bool,
    /// The disk of which the client wants to know what is data.
    context: Option<Arc<NbdDisk>>,
}

impl Talk<'_> {
    fn greet(&mut self) -> Heard<()> {
        let mut hello = MAGIC.to_be_bytes().to_vec();
        hello.extend(OPTION_MAGIC.to_be_bytes());
        hello.extend((FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
        self.socket.write(&[&hello], PATIENCE)?;
        let mut flags = [0; 4];
        self.socket.read(&mut flags, self.until)?;
        let flags = u32::from_be_bytes(flags);
        // Who knows the older way alone says so, and asks for an export by its name.
        let known = u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        if flags & !known != 0 {
            return Err(Gone);
        }
        self.no_zeroes = flags & u32::from(FLAG_NO_ZEROES) != 0;
        Ok(())
    }

    /// Hears one option and answers; the disk that the client goes on with, if it does.
    fn hear_option(&mut self) -> Heard<Option<Arc<NbdDisk>>> {
        let mut header = [0; 16];
        self.socket.read(&mut header, self.until)?;
        let mut fields = Fields(&header);
        let magic = fields.u64().ok_or(Gone)?;
        let (option, length) = (fields.u32().ok_or(Gone)?, fields.u32().ok_or(Gone)?);
        if magic != OPTION_MAGIC || length > MOST_OPTION {
            // Nothing that it says can be told from anything else any more.
            return Err(Gone);
        }
        let mut data = vec![0; length as usize];
        self.socket.read(&mut data, self.until)?;
        if let (Some(certificates), false) = (self.certificates, self.is_secured) {
            return self.hear_unsecured(option, &data, certificates);
        }
        match option {
            OPT_STARTTLS if self.is_secured => {
                self.refuse(option, REP_ERR_INVALID, "TLS was begun before")
            }
            OPT_EXPORT_NAME => self.go_the_old_way(&data).map(Some),
            OPT_ABORT => {
                let _ = self.answer(option, REP_ACK, &[]);
                Err(Gone)
            }
            OPT_LIST => self.list(&data),
            OPT_INFO | OPT_GO => self.inform(option, &data),
            OPT_STRUCTURED_REPLY | OPT_EXTENDED_HEADERS => self.choose_style(option, &data),
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.contexts(option, &data),
            // TLS among them where there is none: who asks for it goes on without, or not at all.
            _ => self.refuse(option, REP_ERR_UNSUP, "this server knows no such option"),
        }
    }

    /// What is said before TLS: it tells nothing of what is served.
    fn hear_unsecured(
        &mut self,
        option: u32,
        data: &[u8],
        certificates: &ServerCertificates,
    ) -> Heard<Option<Arc<NbdDisk>>> {
        match option {
            OPT_STARTTLS if data.is_empty() => {
                self.answer(option, REP_ACK, &[])?;
                let secured = self.socket.secure(certificates, self.until);
                secured.map_err(|why| {
                    self.troubles
                        .tell(&format!("a client was sent away: {why}"));
                    Gone
                })?;
                // Nothing that was agreed on before counts.
                self.is_secured = true;
                self.style = HeaderStyle::default();
                self.context = None;
                Ok(None)
            }
            OPT_STARTTLS => self.refuse(option, REP_ERR_INVALID, "the option takes nothing"),
            OPT_ABORT => {
                let _ = self.answer(option, REP_ACK, &[]);
                Err(Gone)
            }
            // It has no answer that says no.
            OPT_EXPORT_NAME => Err(Gone),
            _ => self.refuse(option, REP_ERR_TLS_REQD, "TLS comes first"),
        }
    }

    fn answer(&self, option: u32, reply: u32, data: &[u8]) -> Heard<()> {
        let mut header = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        header.extend(option.to_be_bytes());
        header.extend(reply.to_be_bytes());
        header.extend((data.len() as u32).to_be_bytes());
        self.socket.write(&[&header, data], PATIENCE)
    }

    fn refuse(&self, option: u32, error: u32, why: &str) -> Heard<Option<Arc<NbdDisk>>> {
        self.answer(option, error, why.as_bytes())?;
        Ok(None)
    }

    fn acknowledge(&self, option: u32) -> Heard<Option<Arc<NbdDisk>>> {
        self.answer(option, REP_ACK, &[])?;
        Ok(None)
    }

    /// The disk of that name; without a name the first one.
    fn find(&self, name: &[u8]) -> Option<&Arc<NbdDisk>> {
        match name {
            [] => self.disks.first(),
            name => self.disks.iter().find(|disk| disk.name.as_bytes() == name),
        }
    }

    fn go_the_old_way(&self, name: &[u8]) -> Heard<Arc<NbdDisk>> {
        // It has no answer that says no.
        let disk = self.find(name).ok_or(Gone)?;
        if self.style == HeaderStyle::Extended {
            return Err(Gone);
        }
        let mut reply = disk.size().0.to_be_bytes().to_vec();
        reply.extend(allows(disk, self.style).to_be_bytes());
        if !self.no_zeroes {
            reply.extend([0; 124]);
        }
        self.socket.write(&[&reply], PATIENCE)?;
        Ok(Arc::clone(disk))
    }

    fn list(&self, data: &[u8]) -> Heard<Option<Arc<NbdDisk>>> {
        if !data.is_empty() {
            return self.refuse(OPT_LIST, REP_ERR_INVALID, "a list takes nothing");
        }
        for disk in self.disks {
            let mut one = (disk.name.len() as u32).to_be_bytes().to_vec();
            one.extend(disk.name.as_bytes());
            one.extend(disk.description.as_bytes());
            self.answer(OPT_LIST, REP_SERVER, &one)?;
        }
        self.acknowledge(OPT_LIST)
    }

    fn inform(&self, option: u32, data: &[u8]) -> Heard<Option<Arc<NbdDisk>>> {
        let mut fields = Fields(data);
        let asked = fields.text().and_then(|name| {
            let count = fields.u16()?;
            let wanted: Option<Vec<u16>> = (0..count).map(|_| fields.u16()).collect();
            Some((name, wanted?)).filter(|_| fields.0.is_empty())
        });
        let Some((name, wanted)) = asked else {
            return self.refuse(option, REP_ERR_INVALID, "a name and a list were expected");
        };
        let Some(disk) = self.find(name) else {
            return self.refuse(
                option,
                REP_ERR_UNKNOWN,
                "the snapshot has no such disk here",
            );
        };
        let mut export = INFO_EXPORT.to_be_bytes().to_vec();
        export.extend(disk.size().0.to_be_bytes());
        export.extend(allows(disk, self.style).to_be_bytes());
        self.answer(option, REP_INFO, &export)?;
        let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [1, PREFERRED, MOST_REQUEST] {
            sizes.extend(size.to_be_bytes());
        }
        self.answer(option, REP_INFO, &sizes)?;
        for (kind, text) in [
            (INFO_NAME, &disk.name),
            (INFO_DESCRIPTION, &disk.description),
        ] {
            if wanted.contains(&kind) {
                let info = [&kind.to_be_bytes(), text.as_bytes()].concat();
                self.answer(option, REP_INFO, &info)?;
            }
        }
        self.acknowledge(option)?;
        Ok((option == OPT_GO).then(|| Arc::clone(disk)))
    }

    fn choose_style(&mut self, option: u32, data: &[u8]) -> Heard<Option<Arc<NbdDisk>>> {
        if !data.is_empty() {
            return self.refuse(option, REP_ERR_INVALID, "the option takes nothing");
        }
        self.style = match (option, self.style) {
            (OPT_EXTENDED_HEADERS, _) => HeaderStyle::Extended,
            (_, HeaderStyle::Extended) => {
                let why = "extended headers were chosen before";
                return self.refuse(option, REP_ERR_EXT_HEADER_REQD, why);
            }
            _ => HeaderStyle::Structured,
        };
        self.acknowledge(option)
    }

    fn contexts(&mut self, option: u32, data: &[u8]) -> Heard<Option<Arc<NbdDisk>>> {
        let is_chosen = option == OPT_SET_META_CONTEXT;
        if is_chosen {
            self.context = None;
        }
        if self.style == HeaderStyle::Simple {
            let why = "structured replies come first";
            return self.refuse(option, REP_ERR_INVALID, why);
        }
        let mut fields = Fields(data);
        let asked = fields.text().and_then(|name| {
            let count = fields.u32()?;
            // Each takes four bytes at least.
            if count > MOST_OPTION / 4 {
                return None;
            }
            let queries: Option<Vec<&[u8]>> = (0..count).map(|_| fields.text()).collect();
            Some((name, queries?)).filter(|_| fields.0.is_empty())
        });
        let Some((name, queries)) = asked else {
            return self.refuse(option, REP_ERR_INVALID, "a name and queries were expected");
        };
        let Some(disk) = self.find(name).cloned() else {
            return self.refuse(
                option,
                REP_ERR_UNKNOWN,
                "the snapshot has no such disk here",
            );
        };
        let is_meant = |query: &&[u8]| {
            *query == ALLOCATION.as_bytes() || !is_chosen && *query == b"base:".as_slice()
        };
        if queries.iter().any(is_meant) || !is_chosen && queries.is_empty() {
            // Where nothing is chosen, the number is kept for later use.
            let id = if is_chosen { ALLOCATION_ID } else { 0 };
            let reply = [&id.to_be_bytes(), ALLOCATION.as_bytes()].concat();
            self.answer(option, REP_META_CONTEXT, &reply)?;
            if is_chosen {
                self.context = Some(disk);
            }
        }
        self.acknowledge(option)
    }
}

/// What clients may do with a disk.
fn allows(disk: &NbdDisk, style: HeaderStyle) -> u16 {
    let structured = match style {
        HeaderStyle::Simple => 0,
        _ => FLAG_SEND_DF,
    };
    let writing = match disk.is_writable() {
        false => FLAG_READ_ONLY,
        true => FLAG_SEND_FLUSH | FLAG_SEND_FUA | FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES,
    };
    // All connections read and write the same, and each one's flush is of what all have written.
    FLAG_HAS_FLAGS | FLAG_CAN_MULTI_CONN | FLAG_SEND_CACHE | structured | writing
}
