//! What an instance answers, between the two lines that our commands print. It is hostile text:
//! each part of it that is kept is short, printable, and holds nothing of a token.

use super::process::{CallEnd, CallRun};
use super::remote::{BEGIN, END};
use super::runner::FleetRunner;
use super::token::strike_out;
use crate::model::clip;
use crate::model::printable::one_line;
use serde_json::Value;
use std::time::Duration;

/// Longest text of an instance that is kept, in bytes.
const MOST_TEXT: usize = 400;

/// What became of a call.
#[derive(Debug)]
pub(super) enum Reply {
    /// The instance answered: what, and with which exit code.
    Answered(HostAnswer),
    /// It was not reached, or not to its end.
    Broken(BrokenReply),
    /// The batch was stopped meanwhile.
    Stopped,
}

/// What stands between our lines.
#[derive(Debug)]
pub(super) struct HostAnswer {
    pub(super) code: i32,
    body: String,
    aside: String,
    document: Option<Value>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct BrokenReply {
    /// Whether its shell was reached.
    pub(super) reached: bool,
    /// What happened.
    pub(super) what: String,
}

impl Reply {
    /// Judges a call.
    pub(super) fn of(
        mut run: CallRun,
        runner: &FleetRunner,
        token: Option<&[u8]>,
        within: Duration,
    ) -> Self {
        // Before anything is struck out of the raw text: what is left of a token there is no text
        // of its own any more.
        let raw = String::from_utf8_lossy(&run.answer).into_owned();
        let document = match Framed::of(&raw) {
            Framed::Whole(body, _) => document(&body, token.unwrap_or_default()),
            Framed::None | Framed::Begun => None,
        };
        for said in [&mut run.answer, &mut run.aside] {
            strike_out(said, token.unwrap_or_default());
        }
        let text = String::from_utf8_lossy(&run.answer);
        let aside = String::from_utf8_lossy(&run.aside).into_owned();
        let framed = Framed::of(&text);
        if run.end == CallEnd::Stopped {
            return Self::Stopped;
        }
        if let Framed::Whole(body, code) = &framed
            && matches!(run.end, CallEnd::Exited(_) | CallEnd::Signalled(_))
        {
            let body = body.join("\n");
            return Self::Answered(HostAnswer {
                code: *code,
                document,
                body,
                aside,
            });
        }
        let reached = !matches!(framed, Framed::None);
        let word = runner.word();
        let ended = match &run.end {
            CallEnd::Exited(code) => format!("{word} ended with {code}"),
            CallEnd::Signalled(signal) => format!("{word} was ended by signal {signal}"),
            CallEnd::TimedOut => format!("no answer within {} s", within.as_secs_f32()),
            CallEnd::SaidTooMuch => "it said more than 64 KiB, and was cut off".into(),
            CallEnd::NotStarted(why) => format!("{word} cannot be started: {why}"),
            CallEnd::Stopped => String::new(),
        };
        let said = match &run.end {
            CallEnd::Exited(_) | CallEnd::Signalled(_) => {
                last_line(&aside).or_else(|| last_line(&text))
            }
            CallEnd::TimedOut => last_line(&aside),
            CallEnd::SaidTooMuch | CallEnd::Stopped | CallEnd::NotStarted(_) => None,
        };
        let what = match (reached, said) {
            (true, _) => format!("it broke off in the middle of its answer: {ended}"),
            (false, Some(said)) => format!("{ended}: {said}"),
            (false, None) => ended,
        };
        Self::Broken(BrokenReply { reached, what })
    }
}

impl HostAnswer {
    /// Whether this line stands alone.
    pub(super) fn has_line(&self, line: &str) -> bool {
        self.body.lines().any(|one| one.trim_end() == line)
    }

    /// The last line that is a document.
    pub(super) fn document(&self) -> Option<&Value> {
        self.document.as_ref()
    }

    /// The last thing that it said, if any.
    pub(super) fn said(&self) -> Option<String> {
        last_line(&self.body).or_else(|| last_line(&self.aside))
    }
}

/// The last line that is a document, without the token, which may stand there in escapes.
fn document(body: &[&str], token: &[u8]) -> Option<Value> {
    let mut lines = body.iter().rev().map(|line| line.trim());
    lines.find_map(|line| {
        let mut document: Value = serde_json::from_str(line).ok()?;
        strike_out_of(&mut document, token);
        document.is_object().then_some(document)
    })
}

fn strike_out_of(value: &mut Value, token: &[u8]) {
    match value {
        Value::String(text) => {
            let mut bytes = std::mem::take(text).into_bytes();
            strike_out(&mut bytes, token);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::Array(values) => values.iter_mut().for_each(|one| strike_out_of(one, token)),
        Value::Object(keys) => keys.values_mut().for_each(|one| strike_out_of(one, token)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text from an instance, as far as it is kept.
pub(super) fn kept(text: &str) -> String {
    clip(&one_line(text.trim()), MOST_TEXT)
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(kept(line))
}

/// An answer and our lines around it.
enum Framed<'a> {
    None,
    /// It has begun, and has no end.
    Begun,
    Whole(Vec<&'a str>, i32),
}

impl<'a> Framed<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines = text.lines().map(str::trim_end);
        if !lines.any(|line| line == BEGIN) {
            return Self::None;
        }
        let mut body = Vec::new();
        for line in lines {
            match line.strip_prefix(END).map(str::parse) {
                Some(Ok(code)) => return Self::Whole(body, code),
                _ => body.push(line),
            }
        }
        Self::Begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(answer: &str, end: CallEnd, token: &[u8]) -> Reply {
        let run = CallRun {
            end,
            answer: answer.as_bytes().to_vec(),
            aside: b"aside\nHost key verification failed.\r\n".to_vec(),
        };
        Reply::of(run, &FleetRunner::Ssh, Some(token), Duration::from_secs(7))
    }

    fn answered(answer: &str) -> HostAnswer {
        match reply(answer, CallEnd::Exited(0), b"") {
            Reply::Answered(answered) => answered,
            other => panic!("{other:?}"),
        }
    }

    fn broken(answer: &str, end: CallEnd) -> BrokenReply {
        match reply(answer, end, b"") {
            Reply::Broken(broken) => broken,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_what_stands_between_our_lines() {
        let text = "Welcome\r\n{\"state\":\"no\"}\r\n\r\nstillpoint-fleet: begin\r\nnoise\r\n\
                    {\"state\":\"x\"}\r\n[1]\r\n\r\nstillpoint-fleet: end 3\r\nbye\r\n";
        let answer = answered(text);
        assert_eq!(answer.code, 3);
        assert_eq!(answer.document().unwrap()["state"], "x");
        assert_eq!(answer.said().unwrap(), "[1]");
        assert!(answer.has_line("noise") && !answer.has_line("bye"));
        let empty = answered("stillpoint-fleet: begin\nstillpoint-fleet: end 0");
        assert!(empty.document().is_none());
        assert_eq!(empty.said().unwrap(), "Host key verification failed.");
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let ssh = broken("", CallEnd::Exited(255));
        assert_eq!(
            ssh.what,
            "ssh ended with 255: Host key verification failed."
        );
        assert!(!ssh.reached);
        for (text, end, said, reached) in [
            (
                "stillpoint-fleet: begin\nx",
                CallEnd::Exited(255),
                "it broke off",
                true,
            ),
            (
                "stillpoint-fleet: begin\nstillpoint-fleet: end x",
                CallEnd::Exited(0),
                "broke",
                true,
            ),
            (
                "stillpoint-fleet: end 0",
                CallEnd::Exited(0),
                "ssh ended with 0",
                false,
            ),
            ("", CallEnd::TimedOut, "no answer within 7 s", false),
            ("", CallEnd::SaidTooMuch, "64 KiB", false),
            (
                "stillpoint-fleet: begin\nstillpoint-fleet: end 0",
                CallEnd::SaidTooMuch,
                "64 KiB",
                true,
            ),
            (
                "",
                CallEnd::NotStarted("No such file".into()),
                "cannot be started",
                false,
            ),
        ] {
            let broken = broken(text, end);
            assert!(broken.what.contains(said), "{said}: {}", broken.what);
            assert_eq!(broken.reached, reached, "{text}");
        }
        assert!(matches!(reply("", CallEnd::Stopped, b""), Reply::Stopped));
    }

    #[test]
    fn what_is_kept_is_short_and_printable_and_no_secret() {
        let long = format!(
            "stillpoint-fleet: begin\n\u{1b}[31m{} my-secret-token-1234\n\
             stillpoint-fleet: end 1",
            "x".repeat(5000)
        );
        let said = answered(&long).said().unwrap();
        assert!(
            said.len() <= MOST_TEXT && !said.contains('\u{1b}'),
            "{said}"
        );
        let text = "stillpoint-fleet: begin\n{\"error\":{\"message\":\"my-secret-token-1234\"}}\n\
                    stillpoint-fleet: end 1";
        let Reply::Answered(answer) = reply(text, CallEnd::Exited(1), b"my-secret-token-1234")
        else {
            panic!();
        };
        let error = answer.document().unwrap()["error"]["message"].clone();
        assert_eq!(error, "********************");
        // The same in escapes of JSON, which nobody sees in the raw text.
        let escaped = text.replace("my-secret", "m\\u0079-s\\u0065cret");
        let Reply::Answered(answer) = reply(&escaped, CallEnd::Exited(1), b"my-secret-token-1234")
        else {
            panic!();
        };
        assert_eq!(
            answer.document().unwrap()["error"]["message"],
            "********************"
        );
    }
}
