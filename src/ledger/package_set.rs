//! The packages of an account, those in play apart from those that are spent.
//!
//! A customer who buys again and again has hundreds of packages, of which a few matter to the next call. A package is spent once nothing is held of it and it is used
//! up, over, or released: until a command names it, it gives nothing, and only its sums count. So a call that is taken looks at the packages in play alone.
//!
//! Of packages that are spent for good, a store may keep the old ones in an archive and tell of them in sums, until a command names one.
//!
//! What always holds: every package is where its own fields put it, whatever was done to it in which order; the sums are those of the spent packages, wherever they are. For a
//! clock on which they are not true (it is behind, or has passed an expiry that was not looked at) all packages that were loaded are looked at instead.

use std::cmp::Ordering;

use super::package::{Package, PackageKind, Phase, Standing};
use crate::quantity::Quantity;

/// What is known of packages that were left in the archive. They are spent for good: only a command that names one, or a call that was paid from one, changes anything of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// The highest number of all the account's packages, archived or not.
    pub last_number: u32,
    /// Granted.
    pub granted: Quantity,
    /// Charged.
    pub used: Quantity,
    /// Granted of those that are used up and never over, where there are any.
    pub exhausted: Option<Quantity>,
    /// There is one that is over and was not released.
    pub has_expired: bool,
}

/// What spent packages are worth together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpentSums {
    /// Charged.
    pub(super) used: Quantity,
    /// Granted of those that are used up and not over: they still count, they are only empty.
    pub(super) granted: Quantity,
    /// Unix milliseconds at which the first of those is over.
    pub(super) next_phase_ms: Option<i64>,
    /// Unix milliseconds from which all of them have started, or are over.
    true_from_ms: i64,
}

impl Default for SpentSums {
    fn default() -> Self {
        Self { used: Quantity::ZERO, granted: Quantity::ZERO, next_phase_ms: None, true_from_ms: i64::MIN }
    }
}

impl SpentSums {
    fn of(archive: &Archive) -> Self {
        Self { used: archive.used, granted: archive.exhausted.unwrap_or_default(), ..Self::default() }
    }

    fn add(&mut self, package: &Package) {
        self.used = self.used.saturating_add(package.used);
        if package.is_watched() {
            self.granted = self.granted.saturating_add(package.granted);
        }
        self.next_phase_ms = self.next_phase_ms.into_iter().chain(package.phase_ends_at_ms()).min();
        if package.standing != Standing::Released {
            let is_over = package.phase == Phase::Over;
            self.true_from_ms = self.true_from_ms.max(package.expires_at_ms.filter(|_| is_over).unwrap_or(package.starts_at_ms));
        }
    }

    fn are_true(&self, now_ms: i64) -> bool {
        self.true_from_ms <= now_ms && self.next_phase_ms.is_none_or(|at| now_ms < at)
    }
}

/// An account's packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PackageSet {
    /// Those in play, then the spent ones, both in burn-down order.
    list: Vec<Package>,
    in_play_count: usize,
    spent_sums: SpentSums,
    archive: Archive,
}

impl PackageSet {
    pub(super) fn new(packages: Vec<Package>, archive: Archive) -> Self {
        let mut set = Self { list: packages, archive, ..Self::default() };
        set.arrange();
        set
    }

    /// What was left in the archive.
    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The number of the package that was granted last.
    pub(super) fn last_number(&self) -> u32 {
        self.list.iter().map(|package| package.number).chain([self.archive.last_number]).max().unwrap_or_default()
    }

    /// All packages but the archived ones: those in play first, in burn-down order.
    pub(super) fn all(&self) -> &[Package] {
        &self.list
    }

    /// The packages in play, in burn-down order.
    pub(super) fn in_play(&self) -> &[Package] {
        self.list.get(..self.in_play_count).unwrap_or_default()
    }

    /// The packages to look at on a clock, in burn-down order, and what the others are worth.
    pub(super) fn at(&self, now_ms: i64) -> (impl Iterator<Item = &Package>, SpentSums) {
        let (in_play, all, sums) = if self.spent_sums.are_true(now_ms) {
            (self.in_play(), Vec::new(), self.spent_sums)
        } else {
            (Default::default(), self.in_burn_order(), SpentSums::of(&self.archive))
        };
        (in_play.iter().chain(all), sums)
    }

    pub(super) fn in_burn_order(&self) -> Vec<&Package> {
        places(&self.list, Package::burn_order).into_iter().filter_map(|place| self.list.get(place)).collect()
    }

    pub(super) fn spent_sums(&self) -> &SpentSums {
        &self.spent_sums
    }

    pub(super) fn get(&self, number: u32) -> Option<&Package> {
        self.list.iter().find(|package| package.number == number)
    }

    /// Puts in a package, in place of the one of its number.
    pub(super) fn put(&mut self, package: Package) {
        self.list.retain(|other| other.number != package.number);
        self.list.push(package);
        self.arrange();
    }

    /// Changes what moves of a package: its counters or its phase, nothing that it is ordered by. False where there is none of that number.
    pub(super) fn change(&mut self, number: u32, change: impl FnOnce(&mut Package)) -> bool {
        let Some(package) = self.list.iter_mut().find(|package| package.number == number) else { return false };
        let was_spent = is_spent(package);
        change(package);
        if was_spent || is_spent(package) {
            self.arrange();
        }
        true
    }

    /// The same for all packages.
    pub(super) fn change_all(&mut self, change: impl FnMut(&mut Package)) {
        self.list.iter_mut().for_each(change);
        self.arrange();
    }

    /// After anything that may have spent a package or brought it back, which is rare beside calls.
    fn arrange(&mut self) {
        let order = places(&self.list, in_order);
        let mut packages: Vec<Option<Package>> = std::mem::take(&mut self.list).into_iter().map(Some).collect();
        self.list = order.into_iter().filter_map(|place| packages.get_mut(place)?.take()).collect();
        self.in_play_count = self.list.partition_point(|package| !is_spent(package));
        self.spent_sums = SpentSums::of(&self.archive);
        for package in self.list.iter().skip(self.in_play_count) {
            self.spent_sums.add(package);
        }
    }
}

/// Spent, and time that goes on changes nothing of it: what a store may leave in the archive, once the clock has long agreed.
pub(super) fn is_spent_for_good(package: &Package) -> bool {
    is_spent(package) && package.phase_ends_at_ms().is_none()
}

fn is_spent(package: &Package) -> bool {
    let is_used_up = package.kind == PackageKind::Prepaid && package.used >= package.granted;
    package.held.is_zero()
        && match (package.standing, package.phase) {
            (Standing::Released, _) | (_, Phase::Over) => true,
            (Standing::Open, Phase::Running) => is_used_up,
            (Standing::Open | Standing::Frozen, _) => false,
        }
}

/// The places of packages in an order. A package is large, and its place is not.
fn places(packages: &[Package], order: fn(&Package, &Package) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = Vec::with_capacity(packages.len());
    for (place, package) in packages.iter().enumerate() {
        let is_before = |other: &usize| packages.get(*other).is_some_and(|other| order(other, package).is_lt());
        places.insert(places.partition_point(is_before), place);
    }
    places
}

fn in_order(one: &Package, other: &Package) -> Ordering {
    is_spent(one).cmp(&is_spent(other)).then_with(|| one.burn_order(other))
}

#[cfg(test)]
mod tests {
    use super::{Archive, PackageSet};
    use crate::ids::PackageId;
    use crate::ledger::{Package, PackageKind, Phase, Standing};
    use crate::quantity::Quantity;

    fn parts(parts: i64) -> Quantity {
        Quantity::from_parts(parts).unwrap()
    }

    fn package(number: u32, used: i64) -> Package {
        Package {
            number,
            id: PackageId::new(&format!("p{number}")).unwrap(),
            kind: PackageKind::Prepaid,
            granted: parts(10),
            used: parts(used),
            held: Quantity::ZERO,
            starts_at_ms: 100,
            expires_at_ms: Some(200 + i64::from(number)),
            priority: 0,
            created_at_ms: 100,
            order_id: None,
            standing: Standing::Open,
            phase: Phase::Running,
            grant_digest: String::new(),
        }
    }

    fn numbers(packages: &[Package]) -> Vec<u32> {
        packages.iter().map(|package| package.number).collect()
    }

    #[test]
    fn what_is_in_the_archive_counts_wherever_all_packages_count() {
        let archive =
            Archive { last_number: 9, granted: parts(30), used: parts(25), exhausted: Some(parts(20)), has_expired: true };
        let mut set = PackageSet::new(vec![package(10, 10)], archive);
        for now_ms in [209, 210] {
            let (packages, sums) = set.at(now_ms);
            let all = packages.map(|package| package.used).fold(sums.used, Quantity::saturating_add);
            assert_eq!((all, set.last_number()), (parts(35), 10), "{now_ms}");
        }
        set.change(10, |package| package.used = parts(1));
        assert_eq!((set.spent_sums().used, set.spent_sums().granted), (parts(25), parts(20)));
    }

    fn set_of(packages: Vec<Package>) -> PackageSet {
        PackageSet::new(packages, Archive::default())
    }

    /// As it would be loaded.
    fn anew(set: &PackageSet) -> PackageSet {
        set_of(set.all().iter().rev().cloned().collect())
    }

    #[test]
    fn a_package_is_looked_at_while_something_is_left_or_held_of_it_and_again_once_something_comes_back() {
        let mut set = set_of((1..=3).map(|number| package(number, 9)).collect());
        set.change(2, |package| package.held = parts(1));
        assert_eq!(numbers(set.in_play()), [1, 2, 3]);
        set.change(2, |package| (package.used, package.held) = (parts(10), Quantity::ZERO));
        assert_eq!((numbers(set.in_play()), set.spent_sums().used, set.spent_sums().granted), (vec![1, 3], parts(10), parts(10)));
        assert_eq!((set.spent_sums().next_phase_ms, set == anew(&set)), (Some(202), true));
        set.change(2, |package| package.used = parts(4));
        assert_eq!((numbers(set.in_play()), set == anew(&set)), (vec![1, 2, 3], true));
        assert!(!set.change(4, |_| ()));
    }

    #[test]
    fn a_package_that_is_over_or_released_counts_as_used_alone() {
        let mut set = set_of((1..=3).map(|number| package(number, 9)).collect());
        set.change(1, |package| package.phase = Phase::Over);
        set.put(Package { standing: Standing::Released, ..package(3, 9) });
        assert_eq!(
            (numbers(set.in_play()), set.spent_sums().used, set.spent_sums().granted),
            (vec![2], parts(18), Quantity::ZERO)
        );
        set.put(Package { standing: Standing::Frozen, ..package(2, 10) });
        assert_eq!((numbers(set.in_play()), set == anew(&set)), (vec![2], true));
    }

    #[test]
    fn where_the_clock_contradicts_the_sums_all_packages_are_looked_at_in_burn_down_order() {
        let mut set = set_of((1..=3).map(|number| package(number, 9)).collect());
        set.change(1, |package| package.phase = Phase::Over);
        set.change(2, |package| package.used = parts(10));
        for (now_ms, seen) in [(200, vec![1, 2, 3]), (201, vec![3]), (202, vec![1, 2, 3])] {
            let (packages, sums) = set.at(now_ms);
            let used = parts(if seen.len() == 1 { 19 } else { 0 });
            assert_eq!((packages.map(|package| package.number).collect(), sums.used), (seen, used), "{now_ms}");
        }
    }
}
