//! The columns of a list of instances: which must be there, and where each stands. A column that is
//! not known is refused: it may be a secret, or a name that was mistyped.

use crate::model::printable::one_line;

/// What a new list holds.
pub const TEMPLATE: &str = "instance,name,address,network type,plan,vault\n";

/// The columns by their names, in the order of [`TEMPLATE`].
const NAMES: [&str; 6] = [
    "instance",
    "name",
    "address",
    "network type",
    "plan",
    "vault",
];

/// Where in a row each column stands, in the order of [`TEMPLATE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    places: [usize; NAMES.len()],
}

impl Columns {
    /// How many there are.
    pub(super) const COUNT: usize = NAMES.len();

    /// Those of a header; or all that is wrong with it.
    pub(super) fn of<'a>(header: impl Iterator<Item = &'a str>) -> Result<Self, Vec<String>> {
        let header: Vec<String> = header.map(usual).collect();
        let mut wrong = Vec::new();
        for (number, column) in (1..).zip(&header) {
            let known = NAMES.contains(&column.as_str());
            let before = header.iter().take(number - 1).any(|other| other == column);
            if column.is_empty() {
                wrong.push(format!("column {number} has no name"));
            } else if !known {
                wrong.push(format!("the column \"{}\" is not known", one_line(column)));
            } else if before {
                wrong.push(format!("the column \"{column}\" is there twice"));
            }
        }
        let mut places = [0; NAMES.len()];
        for (place, name) in places.iter_mut().zip(NAMES) {
            match header.iter().position(|column| column == name) {
                Some(found) => *place = found,
                None => wrong.push(format!("the column \"{name}\" is missing")),
            }
        }
        match wrong.is_empty() {
            true => Ok(Self { places }),
            false => Err(wrong),
        }
    }

    /// The cells of a row in the order of [`TEMPLATE`], without blanks around them; `None` where
    /// the row is too short.
    pub(super) fn cells<'a>(
        &self,
        row: impl Fn(usize) -> Option<&'a str>,
    ) -> Option<[&'a str; NAMES.len()]> {
        let mut cells = [""; NAMES.len()];
        for (cell, place) in cells.iter_mut().zip(self.places) {
            *cell = row(place)?.trim();
        }
        Some(cells)
    }
}

/// A column's name as it is compared.
fn usual(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['_', '-'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(header: &str) -> String {
        Columns::of(header.split(',')).unwrap_err().join("; ")
    }

    #[test]
    fn a_header_is_known_in_any_order() {
        let usual = Columns::of(TEMPLATE.trim_end().split(',')).unwrap();
        assert_eq!(usual.places, [0, 1, 2, 3, 4, 5]);
        let other = "Vault,PLAN, Network_Type ,address,name,Instance";
        let other = Columns::of(other.split(',')).unwrap();
        let row = ["v", "p", "n", " a ", "m", "i"];
        let cells = other.cells(|place| row.get(place).copied()).unwrap();
        assert_eq!(cells, ["i", "m", "a", "n", "p", "v"]);
        assert!(other.cells(|place| row.get(place + 1).copied()).is_none());
    }

    #[test]
    fn what_is_wrong_with_a_header_is_said_at_once() {
        let said = wrong("instance,name,adress,network type,plan,vault,token,plan,");
        for part in [
            "\"adress\" is not known",
            "\"token\" is not known",
            "\"plan\" is there twice",
            "column 9 has no name",
            "\"address\" is missing",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(wrong("").contains("\"vault\" is missing"));
    }
}
