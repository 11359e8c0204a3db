//! Files that need one another have no order in which they can be read.

use super::complain;
use super::source::House;
use std::collections::BTreeSet;

/// All that can be reached from each file.
fn reach(needs: &[BTreeSet<usize>]) -> Vec<BTreeSet<usize>> {
    let from = |first: usize| {
        let mut found = BTreeSet::new();
        let mut next = vec![first];
        while let Some(file) = next.pop() {
            next.extend(needs[file].iter().filter(|need| found.insert(**need)));
        }
        found
    };
    (0..needs.len()).map(from).collect()
}

#[test]
fn no_files_need_one_another() {
    let house = House::read();
    let needs: Vec<_> = house.sources.iter().map(|one| house.needs(one)).collect();
    assert!(needs.iter().map(BTreeSet::len).sum::<usize>() > 300);
    let reach = reach(&needs);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in 0..needs.len() {
        let circle: Vec<usize> = (0..needs.len())
            .filter(|other| reach[file].contains(other) && reach[*other].contains(&file))
            .collect();
        if circle.is_empty() || !seen.insert(circle.clone()) {
            continue;
        }
        let path = |file: &usize| house.sources[*file].path.display().to_string();
        let mut lines = vec![format!("a circle of {} files:", circle.len())];
        for one in &circle {
            let inside = needs[*one].iter().filter(|need| circle.contains(need));
            let inside: Vec<String> = inside.map(path).collect();
            lines.push(format!("  {} needs {}", path(one), inside.join(", ")));
        }
        wrong.push(lines.join("\n"));
    }
    complain(&wrong);
}
