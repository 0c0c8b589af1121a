//! Conditions that can never hold, and conditions that can.
