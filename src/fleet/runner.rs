//! What brings a command to an instance: ssh, or any command line with placeholders. No shell of
//! this machine ever sees it: each placeholder becomes a part of one argument.

use super::address::HostAddress;
use super::host::{FleetHost, is_word};
use crate::error::{Error, ErrorKind, Result};
use std::str::FromStr;

/// How long ssh tries to connect, in seconds.
const CONNECT_SECONDS: u32 = 15;
/// What a placeholder stands for, by its name.
const PLACEHOLDERS: [(&str, Placeholder); 7] = [
    ("{instance}", Placeholder::Instance),
    ("{name}", Placeholder::Name),
    ("{address}", Placeholder::Address),
    ("{network}", Placeholder::Network),
    ("{command}", Placeholder::Command),
    ("{command_json}", Placeholder::CommandAsJson),
    ("{command_base64}", Placeholder::CommandAsBase64),
];

/// What brings a command to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetRunner {
    /// The system's ssh, with its user's configuration.
    Ssh,
    /// A command line; each argument in parts.
    Program(Vec<Vec<ArgumentPart>>),
}

/// A part of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgumentPart {
    /// As it stands.
    Text(String),
    /// What differs from call to call.
    Of(Placeholder),
}

/// What differs from call to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// What the cloud calls it.
    Instance,
    /// What people call it.
    Name,
    /// Where it is reached.
    Address,
    /// Over which kind of network.
    Network,
    /// What its shell is to run.
    Command,
    /// The same, as it stands between the quotes of a text of JSON.
    CommandAsJson,
    /// The same, in base64.
    CommandAsBase64,
}

impl Placeholder {
    fn is_command(self) -> bool {
        matches!(
            self,
            Self::Command | Self::CommandAsJson | Self::CommandAsBase64
        )
    }

    fn value(self, host: &FleetHost, address: &HostAddress, command: &str) -> String {
        match self {
            Self::Instance => host.instance.clone(),
            Self::Name => host.name.clone(),
            Self::Address => address.to_string(),
            Self::Network => host.network.clone(),
            Self::Command => command.to_owned(),
            Self::CommandAsJson => {
                let quoted = serde_json::Value::from(command).to_string();
                let inner = quoted.get(1..quoted.len() - 1);
                inner.unwrap_or_default().to_owned()
            }
            Self::CommandAsBase64 => base64_simd::STANDARD.encode_to_string(command),
        }
    }
}

impl FleetRunner {
    /// What it is called in what is said.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Program(_) => "the runner",
        }
    }

    /// Whether another address makes another call.
    pub fn uses_address(&self) -> bool {
        match self {
            Self::Ssh => true,
            Self::Program(arguments) => {
                let mut parts = arguments.iter().flatten();
                parts.any(|part| *part == ArgumentPart::Of(Placeholder::Address))
            }
        }
    }

    /// Refuses a name that a shell behind the runner could take for more than a word.
    ///
    /// # Errors
    /// `Usage`, by line.
    pub fn check(&self, hosts: &[FleetHost]) -> Result<()> {
        let uses_name = match self {
            Self::Ssh => false,
            Self::Program(arguments) => {
                let mut parts = arguments.iter().flatten();
                parts.any(|part| *part == ArgumentPart::Of(Placeholder::Name))
            }
        };
        let is_bad = |host: &&FleetHost| !host.name.is_empty() && !is_word(&host.name);
        match hosts.iter().find(is_bad).filter(|_| uses_name) {
            None => Ok(()),
            Some(host) => {
                let what = format!(
                    "line {}: the runner uses {{name}}, and this one is no plain word: nothing was \
                     done",
                    host.line
                );
                Err(Error::new(ErrorKind::Usage, what)
                    .with_hint("a shell might run what stands in it: use {instance}"))
            }
        }
    }

    /// The program and its arguments, which bring `command` to the shell of an instance.
    pub(super) fn line(
        &self,
        host: &FleetHost,
        address: &HostAddress,
        command: &str,
    ) -> Vec<String> {
        match self {
            Self::Ssh => ssh(address, command),
            Self::Program(arguments) => {
                let text = |part: &ArgumentPart| match part {
                    ArgumentPart::Text(text) => text.clone(),
                    ArgumentPart::Of(placeholder) => placeholder.value(host, address, command),
                };
                let whole = |parts: &Vec<ArgumentPart>| parts.iter().map(text).collect();
                arguments.iter().map(whole).collect()
            }
        }
    }
}

/// It asks nobody for anything, and believes the host keys that its user's configuration believes.
fn ssh(address: &HostAddress, command: &str) -> Vec<String> {
    let connect = format!("ConnectTimeout={CONNECT_SECONDS}");
    let options = [
        "BatchMode=yes",
        &connect,
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
    ];
    let mut line: Vec<String> = ["ssh", "-a", "-x", "-T"].map(String::from).into();
    for option in options {
        line.extend(["-o".into(), option.to_owned()]);
    }
    line.extend(["--".into(), address.to_string(), command.to_owned()]);
    line
}

impl FromStr for FleetRunner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let line = match text.split_once(':') {
            None if text == "ssh" => return Ok(Self::Ssh),
            Some(("exec", line)) => line,
            _ => return Err(refused("a runner is ssh, or exec: and a command line")),
        };
        let words = shlex::split(line).ok_or_else(|| refused("a quote in it has no end"))?;
        let arguments: Vec<_> = words
            .iter()
            .map(|word| parts(word))
            .collect::<Result<_>>()?;
        let is_fixed = |parts: &Vec<ArgumentPart>| match parts.as_slice() {
            [ArgumentPart::Text(program)] => !program.is_empty(),
            _ => false,
        };
        if !arguments.first().is_some_and(is_fixed) {
            return Err(refused("it begins with the name of a program"));
        }
        let mut all = arguments.iter().flatten();
        let is_command = |part: &ArgumentPart| match part {
            ArgumentPart::Of(placeholder) => placeholder.is_command(),
            ArgumentPart::Text(_) => false,
        };
        if !all.any(is_command) {
            return Err(refused("{command} is missing: nothing would be run there"));
        }
        Ok(Self::Program(arguments))
    }
}

fn refused(why: &str) -> Error {
    let what = format!("--runner: {why}: nothing was done");
    Error::new(ErrorKind::Usage, what).with_hint(
        "as in --runner ssh, or --runner 'exec:ip netns exec {instance} sh -c {command}'; in it \
         {instance}, {name}, {address}, {network}, {command}, {command_json} and \
         {command_base64} stand for what differs",
    )
}

/// The parts of a word. What stands in braces and is small letters alone is taken for a
/// placeholder, so that none is mistyped in silence.
fn parts(word: &str) -> Result<Vec<ArgumentPart>> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let known = PLACEHOLDERS
            .iter()
            .find_map(|(name, placeholder)| Some((rest.strip_prefix(name)?, *placeholder)));
        if let Some((after, placeholder)) = known {
            if !text.is_empty() {
                found.push(ArgumentPart::Text(std::mem::take(&mut text)));
            }
            found.push(ArgumentPart::Of(placeholder));
            rest = after;
            continue;
        }
        if let Some(name) = named(rest) {
            return Err(refused(&format!("{{{name}}} is no placeholder")));
        }
        text.push(first);
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    if !text.is_empty() || found.is_empty() {
        found.push(ArgumentPart::Text(text));
    }
    Ok(found)
}

/// The name in braces with which a text begins, if it looks like that of a placeholder.
fn named(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let in_name = |c: u8| c.is_ascii_lowercase() || c == b'_';
    (!name.is_empty() && name.bytes().all(in_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> FleetHost {
        let cells = ["i-1", "the 'first' $(x)", "10.0.0.1", "", "", ""];
        FleetHost::of(2, cells).unwrap()
    }

    fn line(runner: &str, command: &str) -> Vec<String> {
        let host = host();
        let runner: FleetRunner = runner.parse().unwrap();
        runner.line(&host, &host.addresses[0], command)
    }

    #[test]
    fn each_placeholder_is_a_part_of_one_argument() {
        let command = "sh -c 'a \"b\"\n\\c'";
        let words = line("exec:x '{name}' -i={instance}:{network} {command}", command);
        assert_eq!(words, ["x", "the 'first' $(x)", "-i=i-1:private", command]);
        let json = line(
            r#"exec:aws --parameters '{"commands":["{command_json}"]}'"#,
            command,
        );
        let document: serde_json::Value = serde_json::from_str(&json[2]).unwrap();
        assert_eq!(document["commands"][0], command);
        let base64 = line("exec:a {command_base64}", command);
        let decoded = base64_simd::STANDARD.decode_to_vec(&base64[1]).unwrap();
        assert_eq!(decoded, command.as_bytes());
        let json = line("exec:a {command_json}", "\"");
        assert_eq!(json[1], "\\\"");
    }

    #[test]
    fn ssh_asks_nobody_and_leaves_host_keys_to_its_configuration() {
        let words = line("ssh", "true");
        assert_eq!(words[0], "ssh");
        assert!(words.iter().any(|word| word == "BatchMode=yes"));
        assert!(words.iter().any(|word| word.starts_with("ConnectTimeout=")));
        assert!(!words.iter().any(|word| word.contains("HostKey")));
        assert_eq!(words[words.len() - 3..], ["--", "10.0.0.1", "true"]);
    }

    #[test]
    fn what_is_no_runner_is_refused() {
        for (text, why) in [
            ("", "a runner is ssh"),
            ("telnet", "a runner is ssh"),
            ("ssh:x", "a runner is ssh"),
            ("exec:", "begins with the name"),
            ("exec:{instance} {command}", "begins with the name"),
            ("exec:'' {command}", "begins with the name"),
            ("exec:a b", "{command} is missing"),
            ("exec:a 'b {command}", "no end"),
            ("exec:a {instace} {command}", "{instace} is no placeholder"),
        ] {
            let error = text.parse::<FleetRunner>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
        for other in ["exec:a {} {command}", "exec:a '{\"a\":1}' {X} {command}"] {
            other.parse::<FleetRunner>().unwrap();
        }
        let runner: FleetRunner = "exec:a {command}".parse().unwrap();
        assert!(!runner.uses_address() && FleetRunner::Ssh.uses_address());
        let named: FleetRunner = "exec:a {name} {command}".parse().unwrap();
        assert!(named.check(&[host()]).is_err());
        for any in [runner, FleetRunner::Ssh] {
            any.check(&[host()]).unwrap();
        }
    }
}
