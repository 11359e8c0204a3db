//! What is tested, as a read-only disk with a tar on it, made once for a run.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that tells where the program was built.
const PROGRAM_PATH: &str = "program-path";

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
    std::fs::write(folder.join(PROGRAM_PATH), program.display().to_string())?;
    image_of(&folder, &image)?;
    Ok(image)
}

/// Makes a Debian package of the program, by what makes those that users install, and puts it on a
/// disk image beside `product`; it is made once.
pub fn package(product: &Path) -> Result<PathBuf> {
    let image = product.with_file_name("package.raw");
    if image.exists() {
        return Ok(image);
    }
    let program = std::fs::read_to_string(product.with_file_name("product").join(PROGRAM_PATH))?;
    let folder = product.with_file_name("package");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/package");
    let place = folder.display().to_string();
    run(
        &script.display().to_string(),
        &["--built", program.trim(), &place],
    )?;
    image_of(&folder, &image)?;
    Ok(image)
}

/// Puts what is in a folder on a disk image, as a tar.
fn image_of(folder: &Path, image: &Path) -> Result<()> {
    let place = folder.display().to_string();
    let name = image.display().to_string();
    run("tar", &["--numeric-owner", "-C", &place, "-cf", &name, "."])?;
    // Whole sectors.
    let size = std::fs::metadata(image)?.len().next_multiple_of(1 << 20);
    let file = std::fs::File::options().write(true).open(image)?;
    file.set_len(size)?;
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(())
}
