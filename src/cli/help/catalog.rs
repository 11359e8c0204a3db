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
pub const PAGES: [Page; 20] = [
    Page {
        name: "rescue",
        about: "A disk died, a vault is damaged, a machine is gone: what to do",
        markdown: include_str!("../pages/rescue.md"),
    },
    Page {
        name: "network",
        about: "The disks of a snapshot for QEMU and other NBD clients on other machines",
        markdown: include_str!("../pages/network.md"),
    },
    Page {
        name: "operators",
        about: "Many instances, no terminal: jobs, exit codes, what to do about each result",
        markdown: include_str!("../pages/operators.md"),
    },
    Page {
        name: "plans",
        about: "What a host snapshots by itself, when, and what follows",
        markdown: include_str!("../pages/plans.md"),
    },
    Page {
        name: "clients",
        about: "A host that is activated by a token, how it stands, another version, away with it",
        markdown: include_str!("../pages/clients.md"),
    },
    Page {
        name: "notify",
        about: "Told when it did not go well: script, webhook, mail, pings, figures, journal",
        markdown: include_str!("../pages/notify.md"),
    },
    Page {
        name: "fleets",
        about: "Many instances from one machine: lists, runners, the clouds' assistants",
        markdown: include_str!("../pages/fleets.md"),
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
        about: "Where a vault may lie, whether it will do, a second copy elsewhere",
        markdown: include_str!("../pages/vaults.md"),
    },
    Page {
        name: "s3",
        about: "A vault in a bucket: credentials, names, least permissions, archives",
        markdown: include_str!("../pages/s3.md"),
    },
    Page {
        name: "encryption",
        about: "An encrypted vault, its keys, and a key that reads no block",
        markdown: include_str!("../pages/encryption.md"),
    },
    Page {
        name: "locks",
        about: "A bucket that root on a host cannot destroy",
        markdown: include_str!("../pages/locks.md"),
    },
    Page {
        name: "theft",
        about: "When a key of a bucket was stolen: to restored files, step by step",
        markdown: include_str!("../pages/theft.md"),
    },
    Page {
        name: "retention",
        about: "What stays, what goes, what is freed, what a vault holds",
        markdown: include_str!("../pages/retention.md"),
    },
    Page {
        name: "rewriting",
        about: "What gc --rewrite does about segments of which little is needed",
        markdown: include_str!("../pages/rewriting.md"),
    },
    Page {
        name: "alarm",
        about: "When files are being encrypted: what is told, what is held, what to do",
        markdown: include_str!("../pages/alarm.md"),
    },
    Page {
        name: "damage",
        about: "What checks a vault, and what mends it",
        markdown: include_str!("../pages/damage.md"),
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
