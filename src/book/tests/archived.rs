//! Packages that are spent for good and old: an instance does without them, and what they are asked for they still answer. Here the last two packages are always loaded.

use super::{admit, assert_part_of, grant, key, load_whole, package, settle, submit, two_books};
use crate::book::{Book, Reply};
use crate::ids::{CorrectionId, PackageId, RequestId};
use crate::ledger::{Command, Outcome, PackageChange, Refusal};
use crate::quantity::{Delta, Quantity};
use crate::store::testing::Sqlite;

const PACKAGES: usize = 5;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

/// A customer who has used up five packages of one unit: the first instance knows them all, the second those that it has to.
fn used_up() -> (tempfile::TempDir, Book<Sqlite>, Book<Sqlite>) {
    let (folder, first, second) = two_books();
    for number in 0..PACKAGES {
        grant(&first, "c", &format!("p{number}"), "1");
        submit(&first, "c", admit(&format!("r{number}")));
        submit(&first, "c", settle(&format!("r{number}")));
    }
    submit(&second, "c", Command::Look);
    (folder, first, second)
}

fn remembered_packages(book: &Book<Sqlite>) -> Vec<u32> {
    let accounts = book.accounts.borrow();
    let account = &accounts[&key("c")].account;
    assert_part_of(account, &load_whole(book.tables().unwrap(), &key("c")));
    let mut numbers: Vec<u32> = account.packages().iter().map(|package| package.number).collect();
    numbers.sort_unstable();
    numbers
}

fn adjust(package_id: &str) -> Command {
    Command::Adjust {
        package_id: PackageId::new(package_id).unwrap(),
        adjustment_id: CorrectionId::new("a").unwrap(),
        quantity: Delta::from_parts(20_000).unwrap(),
        reason: "test".into(),
    }
}

fn refund(request_id: &str) -> Command {
    let (request_id, refund_id) = (RequestId::new(request_id).unwrap(), CorrectionId::new("x").unwrap());
    Command::Refund { request_id, refund_id, quantity: None, reason: "test".into() }
}

#[test]
fn old_packages_that_are_spent_for_good_are_not_loaded_and_count_all_the_same() {
    let (_folder, _first, second) = used_up();
    assert_eq!(remembered_packages(&second), [4, 5]);
    let Reply { result, balance } = submit(&second, "c", admit("x"));
    assert_eq!(result, Err(Refusal::Exhausted { needed: Quantity::ONE, available: Quantity::ZERO }));
    assert_eq!((balance.used, balance.granted, balance.remaining), (quantity("5"), quantity("5"), Quantity::ZERO));
    grant(&second, "c", "next", "1");
    assert!(submit(&second, "c", admit("x")).admission().is_some());
    assert_eq!(remembered_packages(&second), [4, 5, 6]);
}

#[test]
fn a_package_that_is_not_loaded_is_granted_again_as_it_was_or_not_at_all() {
    for packages_apart in [0, 1] {
        let (_folder, first, second) = used_up();
        let book = if packages_apart == 0 { &first } else { &second };
        let repeated = submit(book, "c", package("p0", "1")).result;
        assert!(matches!(repeated, Ok(Outcome::Package(package)) if package.number == 1));
        let other = submit(book, "c", package("p0", "2")).result;
        assert!(matches!(other, Err(Refusal::Conflict(_))), "{other:?}");
        assert_eq!(submit(book, "c", Command::Look).balance.granted, quantity("5"));
    }
}

#[test]
fn what_comes_back_to_a_package_that_is_not_loaded_can_be_used_again() {
    let (_folder, first, second) = used_up();
    submit(&second, "c", refund("r0")).result.unwrap();
    assert_eq!(remembered_packages(&second), [1, 4, 5]);
    assert!(submit(&second, "c", admit("x")).admission().is_some());
    submit(&second, "c", adjust("p1")).result.unwrap();
    assert_eq!(submit(&second, "c", Command::Look).balance.available, quantity("2"));
    assert!(submit(&first, "c", admit("y")).admission().is_some());
    assert_eq!(submit(&second, "c", admit("z")).balance.available, Quantity::ZERO);
    submit(&first, "c", Command::Look);
    assert_eq!(remembered_packages(&first), [1, 2, 4, 5]);
}

#[test]
fn a_package_that_is_not_loaded_is_changed_by_its_name() {
    let (_folder, _first, second) = used_up();
    let release = Command::Change { package_id: PackageId::new("p2").unwrap(), change: PackageChange::Release };
    submit(&second, "c", release).result.unwrap();
    let balance = submit(&second, "c", Command::Look).balance;
    assert_eq!((balance.used, balance.granted), (quantity("5"), quantity("4")));
    let unknown = Command::Change { package_id: PackageId::new("p9").unwrap(), change: PackageChange::Release };
    assert_eq!(submit(&second, "c", unknown).result, Err(Refusal::NotFound));
}

#[test]
fn a_customer_of_whom_everything_old_was_released_has_no_package() {
    let (_folder, first, second) = two_books();
    for number in 0..PACKAGES {
        let package_id = format!("p{number}");
        grant(&first, "c", &package_id, "1");
        let release = Command::Change { package_id: PackageId::new(&package_id).unwrap(), change: PackageChange::Release };
        submit(&first, "c", release).result.unwrap();
    }
    assert_eq!(submit(&second, "c", admit("x")).result, Err(Refusal::NoPackage));
    assert_eq!(remembered_packages(&second), [4, 5]);
}
