//! What is tested, as a read-only disk with a tar on it, made once for a run.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Puts the programs on a disk image in `dir`, without what only a debugger reads.
pub fn pack(dir: &Path, program: &Path, test_program: Option<&Path>) -> Result<PathBuf> {
    let image = dir.join("product.raw");
    let folder = dir.join("product");
    std::fs::create_dir_all(&folder)?;
    let programs = [
        ("stillpoint", Some(program)),
        ("stillpoint-tests", test_program),
    ];
    for (name, from) in programs {
        let Some(from) = from else { continue };
        let to = folder.join(name);
        let from = from.display().to_string();
        run(
            "objcopy",
            &["--strip-debug", &from, &to.display().to_string()],
        )?;
    }
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hooks");
    run(
        "cp",
        &[
            "-r",
            &hooks.display().to_string(),
            &folder.display().to_string(),
        ],
    )?;
    // The test program knows the other by its path at build time.
    let program = std::fs::canonicalize(program)?;
    std::fs::write(folder.join("program-path"), program.display().to_string())?;
    let place = folder.display().to_string();
    let image_name = image.display().to_string();
    run(
        "tar",
        &["--numeric-owner", "-C", &place, "-cf", &image_name, "."],
    )?;
    // Whole sectors.
    let size = std::fs::metadata(&image)?.len().next_multiple_of(1 << 20);
    std::fs::File::options()
        .write(true)
        .open(&image)?
        .set_len(size)?;
    Ok(image)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(())
}
