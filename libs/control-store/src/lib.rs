//! The control store: the node's and the controller's own records, encrypted, transactional and checked.
//!
//! ```text
//! Repository<T> ─ typed records: JSON in an envelope with a version and a revision, validated on both ways
//! ControlStore  ─ transactions over several repositories, a revision that each commit raises, waiting for it
//! redb          ─ pages, trees, two-phase commits; why this one: docs/decisions/2026-11-21-control-store.md
//! PagedFile     ─ each page sealed with every write; the first page kept twice
//! Disk port     ─ one file, `control.db`
//! ```
//!
//! Nothing readable reaches the disk, names of records included. A page that was changed or put back to an older one is
//! found when the store is opened, and afterwards at the read. What is not found is the whole file put back to an older
//! whole: against that a caller who keeps the revision elsewhere gives it as [`Options::not_before`].
//!
//! Reading order: `record`, `repository`, `transaction`, `store`; then below: `database`, `backend`, `cell`, `head`; and
//! what keeps it well: `check`, `compact`, `health`.
//!
//! What must never be here: a file but through the disk port, a cipher, a clock but the port, a thread.

#![forbid(unsafe_code)]

mod backend;
mod cell;
mod check;
mod compact;
mod database;
mod error;
mod fault;
mod head;
mod health;
mod owner;
mod record;
mod repository;
mod store;
mod transaction;

pub use check::{CheckFinding, CheckReport, KindCheck};
pub use compact::CompactReport;
pub use error::{Problem, StoreError};
pub use health::{ControlHealth, HealthIntervals, HealthSchedule, HealthStatus, HealthTask};
pub use owner::{Owner, Role};
pub use record::{Invalid, KEY_BYTES_MAX, RECORD_BYTES_MAX, Record, Revision, Stored};
pub use repository::Repository;
pub use store::{CONTROL_FILE, ControlStore, Migration, Options};
pub use transaction::{ReadTransaction, View, WriteTransaction};
