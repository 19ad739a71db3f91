//! A statically linked program without a linker: ELF headers, one segment, three instructions.

/// The content of an executable file that only exits, with the given status.
pub fn static_program(exit_status: u8) -> Vec<u8> {
    /// Where the segment is mapped: the file from its beginning.
    const BASE: u64 = 0x40_0000;
    const FILE_HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;

    let (machine, code) = code_that_exits_with(exit_status);
    let headers = u64::from(FILE_HEADER + PROGRAM_HEADER);
    let length = headers + code.len() as u64;
    let mut file = Vec::new();
    // ELF, 64-bit, little-endian, version 1.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // An executable; the machine; version 1; entry point; program headers, no section headers; no flags.
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend((BASE + headers).to_le_bytes());
    file.extend(u64::from(FILE_HEADER).to_le_bytes());
    file.extend([0; 8 + 4]);
    // The headers' sizes and numbers: one program header, no sections.
    for half in [FILE_HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable; offset, address, physical address, both sizes, alignment.
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, length, length, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
fn code_that_exits_with(status: u8) -> (u16, Vec<u8>) {
    // mov edi, status; mov eax, 60 (exit); syscall
    (62, vec![0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])
}

#[cfg(target_arch = "aarch64")]
fn code_that_exits_with(status: u8) -> (u16, Vec<u8>) {
    // mov x0, status; mov x8, 93 (exit); svc 0
    let instructions = [0xd280_0000 | u32::from(status) << 5, 0xd280_0ba8, 0xd400_0001];
    (183, instructions.into_iter().flat_map(u32::to_le_bytes).collect())
}
