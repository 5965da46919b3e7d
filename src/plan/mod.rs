//! What will happen, resolved and frozen. Pure: same input, same bytes.

pub mod load_point;
pub use load_point::{Arrival, Endpoint, Length, LoadPoint, Slo, Stop, point_id};
