//! What cloud-init does on a machine that it takes for a new one: it goes by the instance's ID,
//! which a copy has another of. Of its YAML only keys at the beginning of a line are understood.

use super::tree::MachineFiles;
use super::verdict::{BootRisk, BootRiskLevel, Restorability};

const MAIN: &str = "/etc/cloud/cloud.cfg";

/// Sources that depend on no certain cloud.
const ANYWHERE: [&str; 3] = ["NoCloud", "ConfigDrive", "OVF"];

/// A key's value, and where it stands.
struct CloudSetting {
    place: String,
    value: String,
}

/// Whether cloud-init is at work on the machine.
pub(super) fn at_work(tree: &MachineFiles) -> bool {
    let cmdline = tree.text_if_any("/proc/cmdline").unwrap_or_default();
    let off = cmdline
        .split_whitespace()
        .any(|word| word == "cloud-init=disabled");
    tree.has(MAIN) && !tree.has("/etc/cloud/cloud-init.disabled") && !off
}

/// Whether it writes the configuration of the network, and would anew on another machine.
pub(super) fn makes_network(tree: &MachineFiles, found: &mut Restorability) -> bool {
    at_work(tree) && {
        let files = files(tree, found);
        let is_off = |path: &String| {
            let text = tree.text_if_any(path).unwrap_or_default();
            let plain: String = text.split_whitespace().collect();
            plain.contains("network:{config:disabled}") || plain.contains("network:config:disabled")
        };
        !files.iter().any(is_off)
    }
}

fn files(tree: &MachineFiles, found: &mut Restorability) -> Vec<String> {
    let mut files = vec![MAIN.to_owned()];
    files.extend(tree.files_in("/etc/cloud/cloud.cfg.d", ".cfg", found));
    files
}

/// Looks at it.
pub(super) fn look(tree: &MachineFiles, found: &mut Restorability) {
    if !at_work(tree) {
        return;
    }
    let files = files(tree, found);
    found.saw(
        "cloud-init",
        format!("{MAIN} and {} more files", files.len() - 1),
    );
    let keys_go = setting(tree, &files, "ssh_deletekeys", found);
    let keys_go = keys_go.is_none_or(|one| is_true(&one.value));
    let keys = match keys_go {
        true => {
            "throws the SSH host keys away and makes new ones (to keep them: ssh_deletekeys: \
                 false in /etc/cloud/cloud.cfg.d/99-keys.cfg), "
        }
        false => "",
    };
    let name_goes = setting(tree, &files, "preserve_hostname", found);
    let name = match name_goes.is_some_and(|one| is_true(&one.value)) {
        true => "",
        false => "sets the host's name, ",
    };
    found.note(format!(
        "where the instance has another ID cloud-init {keys}{name}runs the new cloud's user data \
         as at the first start"
    ));
    if let Some(list) = setting(tree, &files, "datasource_list", found) {
        sources(&list, found);
    }
}

fn is_true(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "true" | "1" | "yes" | "on"
    )
}

/// The last setting of a key counts, as files come later by their names.
fn setting(
    tree: &MachineFiles,
    files: &[String],
    key: &str,
    found: &mut Restorability,
) -> Option<CloudSetting> {
    let mut last = None;
    for path in files {
        let text = tree.text(path, found).unwrap_or_default();
        last = setting_in(path, &text, key).or(last);
    }
    last
}

fn setting_in(path: &str, text: &str, key: &str) -> Option<CloudSetting> {
    let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
    let start = lines.iter().rposition(|(_, line)| {
        let rest = line.strip_prefix(key).unwrap_or_default();
        rest.trim_start().starts_with(':')
    })?;
    let (number, line) = lines.get(start)?;
    let (_, value) = line.split_once(':')?;
    let mut value = value.split('#').next()?.trim().to_owned();
    let rest = lines.get(start + 1..).unwrap_or_default();
    if value.is_empty() {
        // A list of lines that begin with a dash.
        let items = rest.iter().map(|(_, line)| line.trim());
        let items = items.take_while(|line| line.starts_with('-') || line.starts_with('#'));
        let items = items.filter_map(|line| Some(line.strip_prefix('-')?.trim()));
        value = items.collect::<Vec<_>>().join(",");
    } else if value.starts_with('[') && !value.contains(']') {
        let more = rest.iter().map(|(_, line)| *line);
        for line in more.take(64) {
            value.push_str(line);
            if line.contains(']') {
                break;
            }
        }
    }
    Some(CloudSetting {
        place: format!("{path}:{number}"),
        value,
    })
}

/// Whether it asks one cloud alone who it is.
fn sources(list: &CloudSetting, found: &mut Restorability) {
    let all = list
        .value
        .split([',', '[', ']', ' ', '\'', '"', '\t', '\n']);
    let clouds: Vec<&str> = all
        .filter(|one| !one.is_empty() && *one != "None")
        .collect();
    let [only] = clouds.as_slice() else {
        return;
    };
    if ANYWHERE.contains(only) {
        return;
    }
    found.risk(BootRisk {
        level: BootRiskLevel::BehavesOtherwise,
        what: format!("cloud-init asks {only} alone who it is"),
        place: list.place.clone(),
        why: "on another cloud it waits for minutes, and sets up neither network nor keys".into(),
        remedy: format!(
            "let it say datasource_list: [ {only}, NoCloud, ConfigDrive, OpenStack, Ec2, Azure, \
             None ], those that the machine may come to"
        ),
    });
}

/// Whether a file says that cloud-init has made it.
pub(super) fn made_by_it(path: &str, text: &str) -> bool {
    let head: Vec<_> = text.lines().take(12).map(str::to_ascii_lowercase).collect();
    let says = [
        "created by cloud-init",
        "generated by cloud-init",
        "written by cloud-init",
    ];
    let by_it = |line: &String| {
        says.iter().any(|words| line.contains(words))
            || line.contains("generated from information provided by") && line.starts_with('#')
    };
    path.contains("cloud-init") || head.iter().any(by_it)
}
