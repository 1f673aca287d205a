//! Which rows there are, and which of them share a machine.

use super::Row;
use crate::{catalogue::Catalogue, profile::GuestProfile, scenario::Bus};

/// Rows for which one boot is worth it; fewer would boot too often, more would leave one worker with the rest.
const MOST_ROWS: usize = 36;
/// The processors that are tried.
const PROCESSORS: [u8; 3] = [1, 2, 4];

/// What is left out; an empty list leaves out nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these defects, and not the right driver.
    pub defects: Vec<String>,
    /// Only these buses.
    pub buses: Vec<Bus>,
    /// Only these numbers of processors.
    pub processors: Vec<u8>,
    /// Only with or only without Driver Verifier.
    pub verifier: Option<bool>,
}

/// Rows, in pieces of work: each is of one driver image in one kind of machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The pieces.
    pub pieces: Vec<Vec<Row>>,
}

impl Plan {
    /// Every row of a catalogue that a guest can run, the right driver's first, less what is left out.
    pub fn new(catalogue: &Catalogue, profile: &GuestProfile, filter: &Filter) -> Self {
        let buses = profile.buses.iter().copied();
        let buses = buses.filter(|bus| filter.buses.is_empty() || filter.buses.contains(bus));
        let processors = if filter.processors.is_empty() { &PROCESSORS[..] } else { &filter.processors };
        let (least, most) = (profile.processors.least, profile.processors.most);
        let processors = processors.iter().copied().filter(|count| (least..=most).contains(count));
        let verifier: Vec<_> = [false, true]
            .into_iter()
            .filter(|on| filter.verifier.is_none_or(|wanted| wanted == *on) && (profile.verifier || !on))
            .collect();
        let machines: Vec<_> =
            buses.flat_map(|bus| processors.clone().map(move |processors| (bus, processors))).collect();
        let defects: Vec<_> = catalogue
            .defects
            .iter()
            .filter(|defect| filter.defects.is_empty() || filter.defects.contains(&defect.id))
            .collect();
        let mut pieces = Vec::new();
        for &(bus, processors) in machines.iter().filter(|_| filter.defects.is_empty()) {
            let row = |&verifier| Row { defect: None, bus, processors, verifier };
            pieces.push(verifier.iter().map(row).collect());
        }
        for &(bus, processors) in &machines {
            let applying = defects.iter().filter(|defect| defect.applies(bus, processors));
            let rows: Vec<_> = applying
                .flat_map(|&defect| {
                    verifier.iter().map(move |&verifier| Row {
                        defect: Some(defect.clone()),
                        bus,
                        processors,
                        verifier,
                    })
                })
                .collect();
            pieces.extend(rows.chunks(MOST_ROWS).map(<[Row]>::to_vec));
        }
        pieces.retain(|piece: &Vec<Row>| !piece.is_empty());
        Self { pieces }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(filter: &Filter) -> Plan {
        let text = |id: &str, more: &str| {
            format!(
                "[[defect]]\nid = {id:?}\ndoes = \"x\"\nstage = 1\nplain = [\"D1\"]\nverifier = [\"D1\"]\n\
                 basis = \"memory\"\n{more}\n"
            )
        };
        let entries = [text("one", ""), text("two", "buses = [\"pci-intx\"]\nprocessors = 2")].concat();
        let catalogue: Catalogue = Catalogue::parse(&entries, std::path::Path::new("c.toml")).unwrap();
        let mut profile = GuestProfile::named("testkernel").unwrap();
        (profile.buses, profile.verifier) = (vec![Bus::Isa, Bus::PciIntx], true);
        Plan::new(&catalogue, &profile, filter)
    }

    #[test]
    fn every_defect_is_tried_everywhere_it_can_show() {
        let plan = plan(&Filter::default());
        let count =
            |subject: &str| plan.pieces.iter().flatten().filter(|row| row.subject() == subject).count();
        // Two buses, three counts of processors, with and without Verifier; of the second one bus and two counts.
        assert_eq!((count("right"), count("one"), count("two"), plan.rows()), (12, 12, 4, 28));
        for piece in &plan.pieces {
            let machine = |row: &Row| (row.bus, row.processors, row.defect.is_some());
            assert!(piece.len() <= MOST_ROWS && piece.iter().all(|row| machine(row) == machine(&piece[0])));
        }
    }

    #[test]
    fn what_is_left_out_is_left_out() {
        let filter = Filter {
            defects: vec!["one".to_owned()],
            buses: vec![Bus::PciIntx],
            processors: vec![3, 9],
            verifier: Some(true),
        };
        let plan = plan(&filter);
        assert_eq!(plan.rows(), 1);
        let row = &plan.pieces[0][0];
        assert_eq!((row.subject(), row.bus, row.processors, row.verifier), ("one", Bus::PciIntx, 3, true));
    }
}
