//! The id of a machine for which nobody chose one.

use countersign_core::identity::MachineId;

/// A random UUID (RFC 9562, section 5.4).
///
/// # Errors
///
/// The system gives no random numbers.
pub fn random_id() -> Result<MachineId, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| format!("the system gives no random numbers: {error}"))?;
    let mut number = u128::from_be_bytes(bytes);
    number = number & !(0xf << 76) | (4 << 76);
    number = number & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{number:032x}");
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    MachineId::parse(&groups.join("-"))
        .ok_or_else(|| "the random id is not valid; this is a bug".to_owned())
}
