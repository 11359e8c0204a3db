//! What went wrong while clients were answered, on its way to whoever watches the server: each
//! once, and no more than he can read.

use crate::sys::locked::LockExt;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Most different ones that are told.
const MOST: usize = 100;

/// What went wrong.
#[derive(Default)]
pub struct Troubles(Mutex<Told>);

#[derive(Default)]
struct Told {
    before: BTreeSet<String>,
    new: Vec<String>,
}

impl Troubles {
    /// Notes one, if it was not told before.
    pub fn tell(&self, what: &str) {
        let mut told = self.0.locked();
        if told.before.len() < MOST && told.before.insert(what.to_owned()) {
            told.new.push(what.to_owned());
            if told.before.len() == MOST {
                told.new
                    .push("what else goes wrong is told to clients alone".into());
            }
        }
    }

    /// Those that were not taken yet.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.locked().new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_not_without_end() {
        let troubles = Troubles::default();
        for _ in 0..3 {
            troubles.tell("one");
        }
        assert_eq!(troubles.take(), ["one"]);
        (0..1000).for_each(|n| troubles.tell(&n.to_string()));
        assert_eq!(troubles.take().len(), MOST);
        assert!(troubles.take().is_empty());
    }
}
