//! The buckets of the original's distributions (spec/10 10.2).

/// Latency in milliseconds.
pub const LATENCY_MILLIS: &[f64] = &[
    1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10_000.0, 60_000.0, 120_000.0,
];

/// Bytes read or written.
pub const IO_BYTES: &[f64] = &[
    0.0,
    131_072.0,
    524_288.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
    16_777_216.0,
    33_554_432.0,
    67_108_864.0,
    134_217_728.0,
];

/// Bytes of memory.
pub const MEMORY_BYTES: &[f64] = &[
    0.0,
    134_217_728.0,
    268_435_456.0,
    536_870_912.0,
    1_073_741_824.0,
    2_147_483_648.0,
    4_294_967_296.0,
    8_589_934_592.0,
];

/// Per cent of one CPU.
pub const CPU_PERCENT: &[f64] = &[
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0,
];

/// Attempts of a placer.
pub const PLACER_ATTEMPTS: &[f64] = &[0.0, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
