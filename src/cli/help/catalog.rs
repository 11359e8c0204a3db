//! The pages for people. They are Markdown files, which are read in the sources too: each must be
//! embedded here and linked from the README.

/// A page for people.
pub struct Page {
    /// Its name as an argument of `help`; no command has it.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// Its text.
    pub markdown: &'static str,
}

/// All pages, as they are listed.
pub const PAGES: [Page; 7] = [
    Page {
        name: "rescue",
        about: "A disk died, a vault is damaged, a machine is gone: what to do",
        markdown: include_str!("../pages/rescue.md"),
    },
    Page {
        name: "operators",
        about: "Many instances, no terminal: jobs, exit codes, what to do about each result",
        markdown: include_str!("../pages/operators.md"),
    },
    Page {
        name: "levels",
        about: "What a snapshot holds: levels, free space, busy disks, what is refused",
        markdown: include_str!("../pages/levels.md"),
    },
    Page {
        name: "hooks",
        about: "Snapshots that databases agree with",
        markdown: include_str!("../../../scripts/hooks/README.md"),
    },
    Page {
        name: "vaults",
        about: "Where a vault may lie, how to encrypt it, what stays and what goes, what is freed",
        markdown: include_str!("../pages/vaults.md"),
    },
    Page {
        name: "host",
        about: "What it needs of a host, what it keeps there, and how to take it away",
        markdown: include_str!("../pages/host.md"),
    },
    Page {
        name: "figures",
        about: "What was measured, and against what",
        markdown: include_str!("../pages/figures.md"),
    },
];
