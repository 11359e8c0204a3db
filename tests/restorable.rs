//! `doctor --restorable`: what will keep a machine from booting elsewhere, asked of trees of files.

mod changes;
mod machine;
mod machines;

use stillpoint::engine::{BootRiskLevel, Restorability};

fn places(found: &Restorability) -> Vec<(BootRiskLevel, &str)> {
    found
        .risks
        .iter()
        .map(|risk| (risk.level, risk.place.as_str()))
        .collect()
}
