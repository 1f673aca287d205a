//! A kernel that boots over PVH and never does anything.

const ADDRESS: u32 = 0x10_0000;
const CODE: u32 = 0x1000;
const NOTE: u32 = 0x200;

/// An ELF of one code segment and the note by which a PVH kernel names its entry.
pub(crate) fn halting_kernel() -> Vec<u8> {
    let mut file = vec![0; CODE as usize];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(24, &u64::from(ADDRESS).to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &2_u16.to_le_bytes());
    put(58, &64_u16.to_le_bytes());
    // cli; hlt; jmp to the hlt
    let code = [0xFA, 0xF4, 0xEB, 0xFD];
    // Name size, description size, type 18 (the entry's physical address), "Xen", the address.
    let note: Vec<u8> =
        [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), ADDRESS].into_iter().flat_map(u32::to_le_bytes).collect();
    let mut segment = |index: usize, kind: u32, offset: u32, address: u32, size: usize| {
        let at = 64 + index * 56;
        put(at, &kind.to_le_bytes());
        put(at + 4, &5_u32.to_le_bytes());
        put(at + 8, &u64::from(offset).to_le_bytes());
        for field in [16, 24] {
            put(at + field, &u64::from(address).to_le_bytes());
        }
        for field in [32, 40] {
            put(at + field, &(size as u64).to_le_bytes());
        }
        put(at + 48, &4_u64.to_le_bytes());
    };
    segment(0, 1, CODE, ADDRESS, code.len());
    segment(1, 4, NOTE, 0, note.len());
    put(NOTE as usize, &note);
    file.extend_from_slice(&code);
    file
}
