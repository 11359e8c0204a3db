//! Runs scenarios and tells how they went, in the form of `cargo test`.

use crate::Line;
use crate::cache::Kernel;
use crate::lab::Lab;
use crate::product;
use crate::scenarios::{ALL, Scenario};
use anyhow::{Context, Result, anyhow, ensure};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// One scenario with one kernel.
struct Case {
    name: String,
    kernel: Kernel,
    scenario: &'static Scenario,
}

fn chosen(line: &Line) -> (Vec<Case>, usize) {
    let (mut cases, mut left_out) = (Vec::new(), 0);
    for scenario in ALL {
        for kernel in Kernel::ALL {
            let fast = scenario.fast.contains(&kernel);
            if !fast && !scenario.slow.contains(&kernel) {
                continue;
            }
            let name = format!("{}::linux_{}", scenario.name, kernel.version());
            let wanted =
                line.names.is_empty() || line.names.iter().any(|part| name.contains(part.as_str()));
            let version = line
                .kernel
                .as_deref()
                .is_none_or(|one| one == kernel.version());
            if wanted && version && (fast || !line.fast) {
                cases.push(Case {
                    name,
                    kernel,
                    scenario,
                });
            } else {
                left_out += 1;
            }
        }
    }
    // One kernel after the other.
    cases.sort_by_key(|case| Kernel::ALL.iter().position(|kernel| *kernel == case.kernel));
    (cases, left_out)
}

/// Where the files of scenarios that failed are kept.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/failed")
}

/// Runs what the command line asks for.
pub fn run(line: &Line) -> Result<ExitCode> {
    let (cases, left_out) = chosen(line);
    if line.list {
        cases
            .iter()
            .for_each(|case| println!("{}: test", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(!cases.is_empty(), "no scenario has such a name");
    println!("\nrunning {} tests", cases.len());
    if let Some(why) = &line.skip_all {
        for case in &cases {
            println!("test {} ... ignored, {why}", case.name);
        }
        println!(
            "\nSKIPPED: all {} tests in virtual machines: {why}",
            cases.len()
        );
        conclude([0, 0, cases.len(), left_out], Duration::ZERO);
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let work = tempfile::Builder::new()
        .prefix("stillpoint-vm-")
        .tempdir_in("/var/tmp")?;
    let product = product::pack(work.path(), &line.program, line.test_program.as_deref())
        .context("pack the product")?;
    let (mut passed, mut failures, mut notes) = (0, Vec::new(), Vec::new());
    for case in &cases {
        // Said before, so that a run that hangs tells where.
        eprintln!("     {} ...", case.name);
        let start = Instant::now();
        let dir = work.path().join(case.name.replace("::", "-"));
        std::fs::create_dir_all(&dir)?;
        let lab = Lab::new(&dir, (case.kernel, line.broken), &product);
        let verdict = catch_unwind(AssertUnwindSafe(|| (case.scenario.run)(&lab)))
            .unwrap_or_else(|_| Err(anyhow!("the scenario panicked")));
        let verdict = if line.broken {
            turned(verdict, &lab)
        } else {
            verdict
        };
        let seconds = start.elapsed().as_secs_f64();
        notes.extend(lab.notes().into_iter().map(|note| (&case.name, note)));
        let word = if verdict.is_ok() { "ok" } else { "FAILED" };
        println!("test {} ... {word} <{seconds:.1}s>", case.name);
        match verdict {
            Ok(()) => passed += 1,
            Err(error) => failures.push((&case.name, error, keep(&dir)?)),
        }
        if line.keep {
            keep(&dir)?;
        }
        std::fs::remove_dir_all(&dir)?;
    }
    for (name, note) in notes {
        println!("NOTED: {name}: {note}");
    }
    for (name, error, folder) in &failures {
        println!(
            "\n---- {name} ----\n{error:#}\n(console and journal: {})",
            folder.display()
        );
    }
    conclude([passed, failures.len(), 0, left_out], begun.elapsed());
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}

/// The verdict of a scenario that was broken on purpose: it has to have failed.
fn turned(verdict: Result<()>, lab: &Lab) -> Result<()> {
    match verdict {
        Ok(()) => Err(anyhow!("it is content without what it is to prove")),
        Err(error) => {
            let said = format!("{error:#}");
            let line: String = said.replace('\n', " ").chars().take(300).collect();
            lab.note(format!("broken on purpose, and it fails: {line}"));
            Ok(())
        }
    }
}

fn conclude([passed, failed, ignored, left_out]: [usize; 4], time: Duration) {
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
         {left_out} filtered out; finished in {:.2}s",
        time.as_secs_f64()
    );
}

/// Keeps what the guests said: consoles, journals, QEMU's words; no disks.
fn keep(dir: &Path) -> Result<PathBuf> {
    let to = kept().join(dir.file_name().unwrap_or_default());
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("console" | "journal" | "qemu" | "txt")) {
            std::fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(to)
}
