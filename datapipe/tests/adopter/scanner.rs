//! Inspection of trees and streams.
