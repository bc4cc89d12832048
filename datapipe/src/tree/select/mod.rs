//! Choosing from an archived tree: paths, the list of its objects, the search of its catalogue.

mod list; // objects of an archived tree, one by one
mod paths; // selection of objects by path
mod search; // blocks of the selected objects, from the catalogue

pub use list::TreeList;
pub use paths::Selection;
pub use search::{CatalogueQuery, Search};
