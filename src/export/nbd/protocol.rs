//! The numbers of the NBD protocol, and its headers: bytes ↔ values. The source is `doc/proto.md`
//! of the NetworkBlockDevice project, and the names of constants are those there without `NBD_`.

/// What a server says first: `NBDMAGIC`.
pub const MAGIC: u64 = 0x4e42_444d_4147_4943;
/// What begins the newstyle handshake, and each option: `IHAVEOPT`.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// What begins an answer to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// The server's handshake flags, and the client's.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
pub const FLAG_NO_ZEROES: u16 = 2;

pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_ABORT: u32 = 2;
pub const OPT_LIST: u32 = 3;
pub const OPT_STARTTLS: u32 = 5;
pub const OPT_INFO: u32 = 6;
pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_LIST_META_CONTEXT: u32 = 9;
pub const OPT_SET_META_CONTEXT: u32 = 10;
pub const OPT_EXTENDED_HEADERS: u32 = 11;

pub const REP_ACK: u32 = 1;
pub const REP_SERVER: u32 = 2;
pub const REP_INFO: u32 = 3;
pub const REP_META_CONTEXT: u32 = 4;
pub const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
pub const REP_ERR_INVALID: u32 = 1 << 31 | 3;
pub const REP_ERR_TLS_REQD: u32 = 1 << 31 | 5;
pub const REP_ERR_UNKNOWN: u32 = 1 << 31 | 6;
pub const REP_ERR_EXT_HEADER_REQD: u32 = 1 << 31 | 10;

pub const INFO_EXPORT: u16 = 0;
pub const INFO_NAME: u16 = 1;
pub const INFO_DESCRIPTION: u16 = 2;
pub const INFO_BLOCK_SIZE: u16 = 3;

/// What a disk allows: its transmission flags.
pub const FLAG_HAS_FLAGS: u16 = 1;
pub const FLAG_READ_ONLY: u16 = 1 << 1;
pub const FLAG_SEND_FLUSH: u16 = 1 << 2;
pub const FLAG_SEND_FUA: u16 = 1 << 3;
pub const FLAG_SEND_TRIM: u16 = 1 << 5;
pub const FLAG_SEND_WRITE_ZEROES: u16 = 1 << 6;
pub const FLAG_SEND_DF: u16 = 1 << 7;
pub const FLAG_CAN_MULTI_CONN: u16 = 1 << 8;
pub const FLAG_SEND_CACHE: u16 = 1 << 10;

pub const CMD_READ: u16 = 0;
pub const CMD_WRITE: u16 = 1;
pub const CMD_DISC: u16 = 2;
pub const CMD_FLUSH: u16 = 3;
pub const CMD_TRIM: u16 = 4;
pub const CMD_CACHE: u16 = 5;
pub const CMD_WRITE_ZEROES: u16 = 6;
pub const CMD_BLOCK_STATUS: u16 = 7;

pub const CMD_FLAG_FUA: u16 = 1;
pub const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub const CMD_FLAG_DF: u16 = 1 << 2;
pub const CMD_FLAG_REQ_ONE: u16 = 1 << 3;
pub const CMD_FLAG_PAYLOAD_LEN: u16 = 1 << 5;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

pub const REPLY_FLAG_DONE: u16 = 1;
pub const REPLY_TYPE_NONE: u16 = 0;
pub const REPLY_TYPE_OFFSET_DATA: u16 = 1;
pub const REPLY_TYPE_OFFSET_HOLE: u16 = 2;
pub const REPLY_TYPE_BLOCK_STATUS: u16 = 5;
pub const REPLY_TYPE_BLOCK_STATUS_EXT: u16 = 6;
pub const REPLY_TYPE_ERROR: u16 = 1 << 15 | 1;
pub const REPLY_TYPE_ERROR_OFFSET: u16 = 1 << 15 | 2;

/// What a run of `base:allocation` is.
pub const STATE_HOLE: u32 = 1;
pub const STATE_ZERO: u32 = 2;

/// Errors, as they are sent; Linux's numbers.
pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const EOVERFLOW: u32 = 75;

/// How requests and replies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderStyle {
    /// As they always were.
    #[default]
    Simple,
    /// Replies in chunks.
    Structured,
    /// Replies in chunks, and lengths of 64 bits.
    Extended,
}

impl HeaderStyle {
    /// How long the header of a request is.
    pub fn request_length(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 28,
            Self::Extended => 32,
        }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NbdRequest {
    pub flags: u16,
    pub command: u16,
    /// The client's name for it.
    pub cookie: u64,
    pub offset: u64,
    pub length: u64,
}

impl NbdRequest {
    /// Reads a header; `None`: it is none.
    pub fn decode(header: &[u8], style: HeaderStyle) -> Option<Self> {
        let mut from = Fields(header);
        let magic = from.u32()?;
        let (flags, command) = (from.u16()?, from.u16()?);
        let (cookie, offset) = (from.u64()?, from.u64()?);
        let (expected, length) = match style {
            HeaderStyle::Simple | HeaderStyle::Structured => (REQUEST_MAGIC, from.u32()?.into()),
            HeaderStyle::Extended => (EXTENDED_REQUEST_MAGIC, from.u64()?),
        };
        let request = Self {
            flags,
            command,
            cookie,
            offset,
            length,
        };
        (magic == expected && from.0.is_empty()).then_some(request)
    }
}

/// The header of a reply that is one of its own: an error number, or none.
pub fn simple_reply(request: &NbdRequest, error: u32) -> Vec<u8> {
    let mut header = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
    header.extend(error.to_be_bytes());
    header.extend(request.cookie.to_be_bytes());
    header
}

/// One chunk of a reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyChunk {
    /// What it holds.
    pub kind: u16,
    /// It is the last one of its reply.
    pub is_last: bool,
    /// Bytes after its header.
    pub length: u64,
}

impl ReplyChunk {
    /// Its header.
    pub fn encode(self, request: &NbdRequest, style: HeaderStyle) -> Vec<u8> {
        let flags = if self.is_last { REPLY_FLAG_DONE } else { 0 };
        let is_extended = style == HeaderStyle::Extended;
        let magic = match is_extended {
            true => EXTENDED_REPLY_MAGIC,
            false => STRUCTURED_REPLY_MAGIC,
        };
        let mut header = magic.to_be_bytes().to_vec();
        header.extend(flags.to_be_bytes());
        header.extend(self.kind.to_be_bytes());
        header.extend(request.cookie.to_be_bytes());
        if is_extended {
            header.extend(request.offset.to_be_bytes());
            header.extend(self.length.to_be_bytes());
        } else {
            // A payload is a piece, a list of runs or a sentence: short.
            let length = u32::try_from(self.length).unwrap_or(u32::MAX);
            header.extend(length.to_be_bytes());
        }
        header
    }
}

/// Takes big-endian numbers and texts off the beginning of bytes that a client has sent.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes; `None`: there are fewer.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_the_protocol_says() {
        let request = NbdRequest {
            flags: 4,
            command: CMD_READ,
            cookie: 0x0102_0304_0506_0708,
            offset: 0x1_0000,
            length: 512,
        };
        let compact = "256095130004000001020304050607080000000000010000\
                       00000200";
        let header = hex::decode(compact).unwrap();
        for style in [HeaderStyle::Simple, HeaderStyle::Structured] {
            assert_eq!(NbdRequest::decode(&header, style), Some(request));
            assert_eq!(header.len(), style.request_length());
        }
        assert_eq!(NbdRequest::decode(&header, HeaderStyle::Extended), None);
        let extended = "21e41c7100040000010203040506070800000000000100000000000000000200";
        let header = hex::decode(extended).unwrap();
        let found = NbdRequest::decode(&header, HeaderStyle::Extended);
        assert_eq!(found, Some(request));
        assert_eq!(
            NbdRequest::decode(&header[1..], HeaderStyle::Extended),
            None
        );
        assert_eq!(
            hex::encode(simple_reply(&request, EIO)),
            "67446698000000050102030405060708"
        );
        let chunk = ReplyChunk {
            kind: REPLY_TYPE_OFFSET_DATA,
            is_last: true,
            length: 520,
        };
        assert_eq!(
            hex::encode(chunk.encode(&request, HeaderStyle::Structured)),
            "668e33ef00010001010203040506070800000208"
        );
        assert_eq!(
            hex::encode(chunk.encode(&request, HeaderStyle::Extended)),
            "6e8a278c0001000101020304050607080000000000010000\
             0000000000000208"
        );
    }

    #[test]
    fn lengths_that_lie_take_nothing() {
        let mut fields = Fields(&[0, 0, 0, 9, 1, 2]);
        assert_eq!(fields.text(), None);
        let mut fields = Fields(&[0xff; 6]);
        assert_eq!((fields.text(), fields.0.len()), (None, 2));
        assert_eq!(fields.u32(), None);
        assert_eq!(fields.u16(), Some(0xffff));
    }
}
