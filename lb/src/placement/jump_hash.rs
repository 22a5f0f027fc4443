//! The original's way from a function to a runner: SipHash-2-4 of its id, then jump consistent hash
//! (spec/07 7.3, 7.5). The same constants, so that both agree on a function's home.

/// The original's key of SipHash.
const KEY: (u64, u64) = (0, 0x4c61_7279_426f_6174);

/// The place of `id` among `places`; `None` if there are none.
pub(crate) fn home(id: &str, places: usize) -> Option<usize> {
    let places = u32::try_from(places).unwrap_or(u32::MAX);
    (places > 0).then(|| jump(siphash(KEY, id.as_bytes()), places) as usize)
}

/// Jump consistent hash of Lamping and Veach.
fn jump(mut key: u64, places: u32) -> u32 {
    let (mut last, mut next) = (0_u64, 0_u64);
    while next < u64::from(places) {
        last = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let step = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((last + 1) as f64 * step) as u64;
    }
    // Below `places`, which is a u32.
    last as u32
}

/// SipHash-2-4 of Aumasson and Bernstein.
pub(crate) fn siphash((k0, k1): (u64, u64), bytes: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |word: u64| {
        state[3] ^= word;
        round(&mut state);
        round(&mut state);
        state[0] ^= word;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The length goes into the highest byte, modulo 256.
    last[7] = bytes.len() as u8;
    absorb(u64::from_le_bytes(last));
    state[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut state));
    state.into_iter().fold(0, |hash, word| hash ^ word)
}

fn round([v0, v1, v2, v3]: &mut [u64; 4]) {
    *v0 = v0.wrapping_add(*v1);
    *v1 = v1.rotate_left(13) ^ *v0;
    *v0 = v0.rotate_left(32);
    *v2 = v2.wrapping_add(*v3);
    *v3 = v3.rotate_left(16) ^ *v2;
    *v0 = v0.wrapping_add(*v3);
    *v3 = v3.rotate_left(21) ^ *v0;
    *v2 = v2.wrapping_add(*v1);
    *v1 = v1.rotate_left(17) ^ *v2;
    *v2 = v2.rotate_left(32);
}

#[cfg(test)]
mod tests;
