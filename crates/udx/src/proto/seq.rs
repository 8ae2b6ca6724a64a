//! Packet numbers: 32 bits on the wire, 64 inside (spec §3).

/// The 64-bit number that ends in `wire` and lies nearest to `near`.
pub(super) fn unwrap(wire: u32, near: u64) -> u64 {
    let distance = wire.wrapping_sub(near as u32) as i32;
    near.wrapping_add_signed(i64::from(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_around_the_wrap() {
        let near = (1 << 32) + 5;
        assert_eq!(unwrap(5, near), near);
        assert_eq!(unwrap(7, near), near + 2);
        assert_eq!(unwrap(u32::MAX, near), near - 6);
        assert_eq!(unwrap(0, (1 << 32) + u64::from(u32::MAX)), 2 << 32);
    }
}
