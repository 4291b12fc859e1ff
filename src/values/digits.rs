//! Numbers in decimal, for what is written with every request.

/// Room for the digits of any `u64`: 2^64 has twenty.
pub type Room = [u8; 20];

/// The digits of a number, at the end of `room`. By hand: `core::fmt` was a third of what a line of the access log costs.
pub fn of(mut value: u64, room: &mut Room) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_of_the_standard_library(value: u64, shift in 0_u32..64) {
            for value in [value >> shift, 0, 9, 10, u64::MAX] {
                let (mut room, expected) = (Room::default(), value.to_string());
                prop_assert_eq!(of(value, &mut room), expected.as_bytes());
            }
        }
    }
}
