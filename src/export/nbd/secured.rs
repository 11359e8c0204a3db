//! TLS over a client's socket: many threads may write while one reads. It does no input or output
//! that could wait, and hands out no byte before the client has shown its certificate.

use super::heard::{Gone, Heard};
use crate::sys::locked::LockExt;
use rustls::{AlertDescription, CertificateError, Error, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::Mutex;

/// TLS with one client.
pub struct SecuredTalk(Mutex<ServerConnection>);

impl SecuredTalk {
    /// With whom nothing was said yet.
    pub fn new(connection: ServerConnection) -> Self {
        Self(Mutex::new(connection))
    }

    /// Takes what has come for the handshake; true: it is done.
    ///
    /// # Errors
    /// Why the client is not let in: one of a few sentences, whatever it says.
    pub fn shake(&self, from: &mut dyn Read) -> Result<bool, &'static str> {
        let mut talk = self.0.locked();
        match talk.read_tls(from) {
            Ok(0) => return Err("it went away during the TLS handshake"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err("it went away during the TLS handshake"),
            Ok(_) => {
                talk.process_new_packets()
                    .map_err(|error| refusal(&error))?;
            }
        }
        Ok(!talk.is_handshaking())
    }

    /// What is to be sent now.
    pub fn outgoing(&self) -> Vec<u8> {
        let mut all = Vec::new();
        take_outgoing(&mut self.0.locked(), &mut all);
        all
    }

    /// What the client has said, by what there is of it; 0: nothing yet.
    pub fn take(&self, into: &mut [u8], from: &mut dyn Read) -> Heard<usize> {
        let mut talk = self.0.locked();
        if let Some(count) = said(&mut talk, into)? {
            return Ok(count);
        }
        match talk.read_tls(from) {
            Ok(0) => return Err(Gone),
            Ok(_) => talk.process_new_packets().map_err(|_| Gone)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(_) => return Err(Gone),
        };
        Ok(said(&mut talk, into)?.unwrap_or(0))
    }

    /// Seals bytes into `sealed`, as many as fit at once; returns how many.
    pub fn seal(&self, bytes: &[u8], sealed: &mut Vec<u8>) -> Heard<usize> {
        let mut talk = self.0.locked();
        let count = talk.writer().write(bytes).map_err(|_| Gone)?;
        take_outgoing(&mut talk, sealed);
        if count == 0 { Err(Gone) } else { Ok(count) }
    }

    /// That nothing more will be said.
    pub fn farewell(&self) -> Vec<u8> {
        let mut talk = self.0.locked();
        talk.send_close_notify();
        let mut all = Vec::new();
        take_outgoing(&mut talk, &mut all);
        all
    }
}

fn said(talk: &mut ServerConnection, into: &mut [u8]) -> Heard<Option<usize>> {
    match talk.reader().read(into) {
        Ok(0) => Err(Gone),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(Gone),
    }
}

fn take_outgoing(talk: &mut ServerConnection, into: &mut Vec<u8>) {
    while talk.wants_write() {
        // Memory takes all.
        if talk.write_tls(into).is_err() {
            return;
        }
    }
}

/// Why a client is not let in. Nothing of it is the client's own words.
fn refusal(error: &Error) -> &'static str {
    use CertificateError as Bad;
    match error {
        Error::NoCertificatesPresented => "it has shown no certificate",
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "its certificate is not valid yet"
        }
        Error::InvalidCertificate(Bad::Revoked) => "its certificate was revoked",
        Error::InvalidCertificate(Bad::UnknownRevocationStatus) => {
            "no list of what was revoked (ca-crl.pem) is of who signed its certificate"
        }
        Error::InvalidCertificate(_) => "its certificate is not one of this CA (ca-cert.pem)",
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => {
            "it does not believe this server's certificate"
        }
        Error::AlertReceived(_) => "it broke off the TLS handshake",
        _ => "what it said is no TLS that this server speaks",
    }
}
