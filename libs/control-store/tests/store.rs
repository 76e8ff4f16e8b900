//! The control store as its users see it: records, transactions, waiting, owners, schemas, health.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

mod fixture;

use std::sync::Arc;
use std::time::Duration;

use fixture::{App, Host, app, create, host, key, open, options, random};
use holdfast_control_store::{
    ControlHealth, ControlStore, HealthIntervals, HealthSchedule, HealthStatus, HealthTask, KindCheck, Migration,
    Options, Owner, Problem, Repository, Revision, Role, StoreError,
};
use holdfast_disk::{Clock, Faults, LinuxDisk, LinuxMode, ManualClock, SimulatedDisk};

const APPS: Repository<App> = Repository::new();
const HOSTS: Repository<Host> = Repository::new();

fn disk() -> SimulatedDisk {
    SimulatedDisk::new(1, Faults::none())
}

fn put(store: &ControlStore, name: &str, size: u64) -> Revision {
    store.write(|write| APPS.put(write, name, &app(size))).unwrap().1
}

#[test]
fn what_was_written_is_read_after_reopening() {
    let disk = disk();
    let store = create(disk.handle());
    assert_eq!(put(&store, "wiki", 3), Revision(1));
    assert_eq!(put(&store, "mail", 4), Revision(2));
    let both = |store: &ControlStore| store.read(|read| APPS.list(read, "", None, 9)).unwrap();
    let before = both(&store);
    assert_eq!(
        before.iter().map(|(key, one)| (key.as_str(), one.revision.0)).collect::<Vec<_>>(),
        [("mail", 2), ("wiki", 1)]
    );
    store.close().unwrap();
    let store = open(disk.handle()).unwrap();
    assert_eq!((both(&store), store.revision()), (before, Revision(2)));
    assert_eq!(store.read(|read| APPS.get(read, "none")).unwrap(), None);
}

#[test]
fn a_transaction_is_all_or_nothing_over_every_repository() {
    let store = create(disk().handle());
    put(&store, "wiki", 3);
    let failed: Result<((), _), StoreError> = store.write(|write| {
        APPS.put(write, "wiki", &app(9))?;
        HOSTS.put(write, "a", &host("10.0.0.1"))?;
        assert_eq!(APPS.get(write, "wiki")?.unwrap().value, app(9), "a write reads what it wrote");
        HOSTS.put(write, "b", &host(""))?;
        Ok(())
    });
    assert!(matches!(failed.unwrap_err(), StoreError::Record { problem: Problem::Invalid(_), .. }));
    assert_eq!(store.read(|read| APPS.get(read, "wiki")).unwrap().unwrap().value, app(3));
    assert!(store.read(|read| HOSTS.list(read, "", None, 9)).unwrap().is_empty());
    assert_eq!(store.revision(), Revision(1));
    let (_, unchanged) = store.write(|write| APPS.get(write, "wiki")).unwrap();
    assert_eq!(unchanged, Revision(1), "nothing changed, nothing is committed");
}

#[test]
fn the_slower_of_two_writers_is_told() {
    let store = create(disk().handle());
    let set = |expected, size| store.write(|write| APPS.compare_and_set(write, "wiki", expected, &app(size)));
    assert_eq!(set(None, 1).unwrap().1, Revision(1));
    let conflict = set(None, 2).unwrap_err();
    let expected = Problem::Conflict { expected: None, found: Some(Revision(1)) };
    assert!(matches!(&conflict, StoreError::Record { problem, .. } if *problem == expected), "{conflict}");
    set(Some(Revision(1)), 2).unwrap();
    assert!(set(Some(Revision(1)), 3).is_err());
    assert!(store.write(|write| APPS.compare_and_remove(write, "wiki", Revision(1))).is_err());
    store.write(|write| APPS.compare_and_remove(write, "wiki", Revision(2))).unwrap();
    assert!(set(Some(Revision(2)), 3).is_err(), "a record that is gone has no revision");
}

#[test]
fn lists_go_by_prefix_in_order_and_in_parts() {
    let store = create(disk().handle());
    for key in ["b/2", "a/1", "b/1", "b", "c", "b/3"] {
        put(&store, key, 1);
    }
    store.write(|write| HOSTS.put(write, "b/9", &host("x"))).unwrap();
    let list = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.read(|read| APPS.list(read, prefix, after, limit)).unwrap();
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(list("b/", None, 9), ["b/1", "b/2", "b/3"]);
    assert_eq!(list("b/", None, 2), ["b/1", "b/2"]);
    assert_eq!(list("b/", Some("b/2"), 9), ["b/3"]);
    assert_eq!(list("", Some("b"), 9), ["b/1", "b/2", "b/3", "c"]);
    assert_eq!(list("b/", Some("a"), 1), ["b/1"]);
    let long = "k".repeat(513);
    for key in ["", &long] {
        let error = store.write(|write| APPS.put(write, key, &app(1))).unwrap_err();
        assert!(matches!(error, StoreError::Record { problem: Problem::Key(_), .. }), "{error}");
    }
}

#[test]
fn a_reader_sees_one_commit_and_writers_do_not_wait_for_it() {
    let store = create(disk().handle());
    put(&store, "wiki", 1);
    store
        .read(|read| {
            put(&store, "wiki", 2);
            assert_eq!((APPS.get(read, "wiki")?.unwrap().value, read.revision()), (app(1), Revision(1)));
            store.compact_to_copy(&key())?;
            put(&store, "wiki", 3);
            assert_eq!(APPS.get(read, "wiki")?.unwrap().value, app(1));
            Ok::<_, StoreError>(())
        })
        .unwrap();
    assert_eq!(store.read(|read| APPS.get(read, "wiki")).unwrap().unwrap().value, app(3));
}

#[test]
fn whoever_waits_is_woken_by_the_next_commit() {
    let store = create(disk().handle());
    assert_eq!(store.wait_beyond(Revision(0), Duration::from_millis(1)), None);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.wait_beyond(Revision(1), Duration::from_secs(60)));
        put(&store, "a", 1);
        put(&store, "b", 1);
        assert_eq!(waiting.join().unwrap(), Some(Revision(2)));
    });
    assert_eq!(store.wait_beyond(Revision(0), Duration::ZERO), Some(Revision(2)));
}

#[test]
fn many_threads_count_to_the_same_number() {
    let store = create(disk().handle());
    put(&store, "count", 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    while {
                        let seen = store.read(|read| APPS.get(read, "count")).unwrap().unwrap();
                        let next = app(seen.value.size + 1);
                        store.write(|write| APPS.compare_and_set(write, "count", Some(seen.revision), &next)).is_err()
                    } {}
                }
            });
        }
    });
    assert_eq!(store.read(|read| APPS.get(read, "count")).unwrap().unwrap().value, app(40));
    assert_eq!(store.revision(), Revision(41));
}

#[test]
fn the_wrong_owner_the_wrong_key_and_the_wrong_place_are_named() {
    let disk = disk();
    assert_eq!(open(disk.handle()).unwrap_err(), StoreError::Missing);
    put(&create(disk.handle()), "wiki", 1);
    let with = |options: Options| ControlStore::open(disk.handle(), random(), &key(), options).unwrap_err();
    let owner = Owner { role: Role::Controller, ..options().owner };
    assert!(matches!(with(Options { owner, ..options() }), StoreError::ForeignOwner { .. }));
    let wrong = holdfast_seal::StorageKey::drawn([8; 32]);
    let refused = ControlStore::open(disk.handle(), random(), &wrong, options()).unwrap_err();
    assert_eq!(refused, StoreError::WrongKey);
    assert_eq!(ControlStore::create(disk.handle(), random(), &key(), options()).unwrap_err(), StoreError::Exists);
    let not_before = Some(Revision(2));
    let expected = StoreError::RolledBack { found: Revision(1), expected: Revision(2) };
    assert_eq!(with(Options { not_before, ..options() }), expected);
    open(disk.handle()).unwrap();
}

#[test]
fn older_schemas_are_migrated_in_one_step_and_newer_ones_refused() {
    let disk = disk();
    put(&create(disk.handle()), "wiki", 1);
    let at = |schema, migrations| {
        ControlStore::open(disk.handle(), random(), &key(), Options { schema, migrations, ..options() })
    };
    let double = |from| Migration {
        from,
        run: |write| {
            let size = APPS.get(write, "wiki")?.map_or(0, |one| one.value.size);
            APPS.put(write, "wiki", &app(size * 2)).map(|_| ())
        },
    };
    assert_eq!(at(3, vec![double(1)]).unwrap_err(), StoreError::NoMigration { from: 2 });
    let store = at(3, vec![double(2), double(1)]).unwrap();
    assert_eq!(store.read(|read| APPS.get(read, "wiki")).unwrap().unwrap().value, app(4));
    assert_eq!(store.revision(), Revision(2));
    drop(store);
    assert_eq!(at(2, vec![]).unwrap_err(), StoreError::NewerSchema { found: 3, known: 2 });
}

#[test]
fn a_record_of_a_newer_version_is_refused_and_an_older_one_migrated() {
    let store = create(disk().handle());
    store.write(|write| Repository::<fixture::NewerHost>::new().put(write, "n", &fixture::newer_host())).unwrap();
    let refused = store.read(|read| HOSTS.get(read, "n")).unwrap_err();
    let expected = Problem::Newer { found: 2, known: 1 };
    assert!(matches!(&refused, StoreError::Record { problem, .. } if *problem == expected), "{refused}");
    store.write(|write| HOSTS.put(write, "o", &host("10.0.0.1"))).unwrap();
    let read = store.read(|read| Repository::<fixture::NewerHost>::new().get(read, "o")).unwrap().unwrap();
    assert_eq!(read.value.port, 22);
}

#[test]
fn an_error_never_shows_what_is_in_a_record() {
    let store = create(disk().handle());
    store.write(|write| Repository::<fixture::Secretive>::new().put(write, "s", &fixture::secretive())).unwrap();
    let error = store.read(|read| Repository::<App>::new().get(read, "s")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn the_schedule_says_what_is_due_and_how_the_store_is() {
    let (disk, clock) = (disk(), ManualClock::new());
    let store = create(disk.handle());
    for number in 0..100 {
        put(&store, &format!("app-{number}"), number);
    }
    let second = Duration::from_secs(1);
    let intervals = HealthIntervals {
        quick_check: 10 * second,
        quick_check_part: second,
        quick_check_units: 100,
        checkpoint: 15 * second,
        compaction: 20 * second,
    };
    let mut schedule = HealthSchedule::new(Arc::new(clock.clone()), intervals);
    assert!(schedule.due().is_empty() && schedule.run_due(&store, &key()).is_empty());
    let mut said: Vec<ControlHealth> = Vec::new();
    for _ in 0..22 {
        clock.advance(second);
        said.extend(schedule.run_due(&store, &key()));
    }
    assert!(said.iter().all(|one| one.status == HealthStatus::Healthy && one.at <= clock.now()), "{said:?}");
    for task in [HealthTask::QuickCheck, HealthTask::Checkpoint, HealthTask::Compaction] {
        assert!(said.iter().any(|one| one.task == task), "{task:?} in {said:?}");
    }
    assert!(said.iter().any(|one| one.detail.contains("100 records: nothing wrong")), "{said:?}");
    // Stored by somebody with laxer rules.
    store.write(|write| Repository::<fixture::LaxHost>::new().put(write, "bad", &fixture::lax_host())).unwrap();
    let report = store.quick_check(u64::MAX).unwrap();
    assert!(report.is_complete && report.findings.len() == 1 && !report.findings[0].is_damage, "{report:?}");
    assert!(report.findings[0].detail.contains("host/bad"), "{report:?}");
    let _ = KindCheck::of::<App>();
}

#[test]
fn a_compaction_gives_room_back_and_keeps_everything() {
    let disk = disk();
    let store = create(disk.handle());
    for number in 0..400 {
        let large = App { text: "x".repeat(8000), ..app(number) };
        store.write(|write| APPS.put(write, &format!("{number:04}"), &large)).unwrap();
    }
    for number in 0..390 {
        store.write(|write| APPS.remove(write, &format!("{number:04}"))).unwrap();
    }
    let before = store.read(|read| APPS.list(read, "", None, 999)).unwrap();
    let report = store.compact_to_copy(&key()).unwrap();
    assert!(report.records == 10 && report.pages_after * 2 < report.pages_before, "{report:?}");
    assert_eq!(store.read(|read| APPS.list(read, "", None, 999)).unwrap(), before);
    let revision = store.revision();
    assert_eq!(put(&store, "new", 1).0, revision.0 + 1);
    store.close().unwrap();
    assert_eq!(disk.handle().list().unwrap(), ["control.db"]);
    assert_eq!(open(disk.handle()).unwrap().read(|read| APPS.list(read, "", None, 999)).unwrap().len(), 11);
}

/// The machine's own disk: what the simulated ones stand for.
#[test]
fn it_works_on_a_real_directory() {
    let path = std::env::temp_dir().join(format!("holdfast-control-store-{}", std::process::id()));
    let disk = || Arc::new(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap());
    let store = create(disk());
    put(&store, "wiki", 3);
    store.compact_to_copy(&key()).unwrap();
    put(&store, "wiki", 4);
    store.close().unwrap();
    let store = open(disk()).unwrap();
    assert_eq!(store.read(|read| APPS.get(read, "wiki")).unwrap().unwrap().value, app(4));
    drop(store);
    std::fs::remove_dir_all(&path).unwrap();
}
