//! Why a GPU lowers its clocks: the bits of NVML, which DCGM and nvidia-smi use too.
//!
//! Source: nvml.h, `nvmlClocksEventReasons`.

/// Nothing runs on the GPU.
pub const IDLE: u64 = 0x1;
/// Somebody set lower application clocks.
pub const APPLICATION_CLOCKS: u64 = 0x2;
/// The driver keeps the GPU below its power limit.
pub const SW_POWER_CAP: u64 = 0x4;
/// The hardware slows down: too hot, a power brake, or too high a power draw.
pub const HW_SLOWDOWN: u64 = 0x8;
/// It follows the clocks of the slowest GPU of its group.
pub const SYNC_BOOST: u64 = 0x10;
/// The driver slows down: GPU or memory are too hot.
pub const SW_THERMAL: u64 = 0x20;
/// The hardware slows down, because it is too hot.
pub const HW_THERMAL: u64 = 0x40;
/// The system asks for less power, through an external signal.
pub const HW_POWER_BRAKE: u64 = 0x80;
/// A display needs other clocks.
pub const DISPLAY: u64 = 0x100;
/// No bit of NVML: an AMD GPU that says that it throttles, and not why.
pub const UNNAMED: u64 = 1 << 63;

/// Bits that lower the clocks of a busy GPU below what it was built for. The power cap is none of them: NVML's documentation has it
/// for every GPU that runs at its power limit, as a busy one does.
pub const HARMFUL: u64 = HW_SLOWDOWN | SW_THERMAL | HW_THERMAL | HW_POWER_BRAKE | UNNAMED;

/// Every bit with its name in files and reports.
pub const NAMES: [(u64, &str); 10] = [
    (IDLE, "idle"),
    (APPLICATION_CLOCKS, "application_clocks"),
    (SW_POWER_CAP, "sw_power_cap"),
    (HW_SLOWDOWN, "hw_slowdown"),
    (SYNC_BOOST, "sync_boost"),
    (SW_THERMAL, "sw_thermal_slowdown"),
    (HW_THERMAL, "hw_thermal_slowdown"),
    (HW_POWER_BRAKE, "hw_power_brake"),
    (DISPLAY, "display_clocks"),
    (UNNAMED, "throttled"),
];

/// The names of the bits that are set.
pub fn names(bits: u64) -> Vec<&'static str> {
    NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_names() {
        assert_eq!(names(0), Vec::<&str>::new());
        assert_eq!(names(0x4 | 0x40), ["sw_power_cap", "hw_thermal_slowdown"]);
        assert_eq!(
            names(HARMFUL),
            ["hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake", "throttled"]
        );
    }
}
