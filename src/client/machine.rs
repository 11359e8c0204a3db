//! For which machine a program is, by the head of its file (elf(5)). It must never be taken for
//! another machine's only because something here could run it, an emulator for example.

/// So much of a file's start says it.
pub(super) const HEAD: usize = 20;
const MAGIC: &[u8] = b"\x7fELF";
/// `EI_CLASS` and `EI_DATA` of 64 bits, the low byte first: what all of ours are.
const WIDE_AND_LITTLE: [u8; 2] = [2, 1];
/// `e_type`: a program at a fixed place, or at any.
const PROGRAMS: [u16; 2] = [2, 3];
/// `e_machine`, and what uname(2) and packages call it.
const MACHINES: [(u16, &str); 7] = [
    (3, "i386"),
    (40, "arm (32 bits)"),
    (62, "x86-64"),
    (183, "arm64"),
    (21, "ppc64"),
    (243, "riscv64"),
    (22, "s390x"),
];

/// The machine of this program.
const OWN: u16 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};

/// Why a file that begins so is no program for a machine like this one; `None`: it may be one.
pub(super) fn not_for_here(head: &[u8]) -> Option<String> {
    let cut_off = || Some("it is cut off".to_owned());
    if !head.starts_with(MAGIC) {
        return Some("it is no program of Linux".into());
    }
    let word = |at: usize| {
        let bytes = head.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_le_bytes(bytes))
    };
    let (Some(kind), Some(kind_of_file), Some(machine)) = (head.get(4..6), word(16), word(18))
    else {
        return cut_off();
    };
    if kind != WIDE_AND_LITTLE || machine != OWN {
        let of = |machine: u16| {
            let known = MACHINES.iter().find(|(number, _)| *number == machine);
            known.map_or_else(
                || format!("machine {machine}"),
                |(_, name)| (*name).to_owned(),
            )
        };
        // With other bytes first, its number would be read the wrong way round.
        let theirs = match kind {
            [_, 2] => of(machine.swap_bytes()),
            _ => of(machine),
        };
        return Some(format!(
            "it is a program for {theirs}, and this is {}",
            of(OWN)
        ));
    }
    match PROGRAMS.contains(&kind_of_file) {
        true => None,
        false => Some("it is a part of a program, and none".into()),
    }
}

/// The head of a program for this machine, for tests.
#[cfg(test)]
pub(super) fn head_of_here() -> Vec<u8> {
    head(OWN)
}

#[cfg(test)]
fn head(machine: u16) -> Vec<u8> {
    let ident = [MAGIC, &WIDE_AND_LITTLE, &[1, 0], &[0; 8]].concat();
    [
        ident,
        3_u16.to_le_bytes().into(),
        machine.to_le_bytes().into(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_machine_is_told_by_its_head() {
        assert_eq!(head_of_here().len(), HEAD);
        assert_eq!(not_for_here(&head_of_here()), None);
        // This one, as it was built.
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(not_for_here(&own[..HEAD]), None);
        let other = if OWN == 62 { 183 } else { 62 };
        let (mut narrow, mut part, mut swapped) = (head(OWN), head(OWN), head(0));
        narrow[4] = 1;
        part[16] = 1;
        swapped[5] = 2;
        swapped[18..].copy_from_slice(&22_u16.to_be_bytes());
        for (bytes, told) in [
            (head(other), "it is a program for"),
            (head(999), "machine 999"),
            (narrow, "it is a program for"),
            (swapped, "s390x"),
            (part, "a part of a program"),
            (head(OWN)[..18].to_vec(), "cut off"),
            (
                b"#!/bin/sh\necho stillpoint".to_vec(),
                "no program of Linux",
            ),
            (Vec::new(), "no program of Linux"),
        ] {
            let why = not_for_here(&bytes).unwrap_or_default();
            assert!(why.contains(told), "{told}: {why}");
        }
        let why = not_for_here(&head(183)).unwrap_or_default();
        assert!(
            OWN == 183 || why == "it is a program for arm64, and this is x86-64",
            "{why}"
        );
    }
}
