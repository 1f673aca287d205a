# From the PVH entry to 64-bit Rust, for the first processor and for the others.
#
# QEMU enters at pvh_entry in flat 32-bit protected mode, paging off, %ebx = physical address of hvm_start_info.
# The other processors enter ap_trampoline in real mode at 0x8000 (the page that their start-up IPI names).
# Both meet the same boot page tables: the first GiB at 0, at the direct map's base and at KERNEL_BASE.

.section .note.Xen, "a", @note
    .balign 4
    .long 4                     # name size
    .long 8                     # description size: QEMU reads a 64-bit address from an ELF64 image
    .long 18                    # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

.section .boot.text, "ax", @progbits
.code32
.global pvh_entry
pvh_entry:
    cld
    mov  %ebx, %esi             # kept for kernel_entry
    lgdt boot_gdt_pointer
    ljmp $0x18, $1f
1:  mov  $0x20, %ax
    mov  %ax, %ds
    mov  %ax, %es
    mov  %ax, %ss
    mov  $boot_stack_low_end, %esp
    call enable_long_mode
    ljmp $0x08, $boot64

# Paging on, long mode active (compatibility mode until the caller's far jump). Clobbers eax, ecx and edx.
enable_long_mode:
    mov  %cr4, %eax
    or   $0x620, %eax           # PAE, OSFXSR, OSXMMEXCPT: drivers use SSE
    mov  %eax, %cr4
    mov  $boot_pml4, %eax
    mov  %eax, %cr3
    mov  $0xC0000080, %ecx      # EFER
    rdmsr
    or   $0x900, %eax           # LME, NXE
    wrmsr
    mov  %cr0, %eax
    and  $0x9ffffff3, %eax      # caches on; EM and TS off
    or   $0x80010023, %eax      # PG, WP, NE, MP, PE
    mov  %eax, %cr0
    ret

.code64
boot64:
    mov  $0x10, %ax
    mov  %ax, %ds
    mov  %ax, %es
    mov  %ax, %ss
    xor  %eax, %eax
    mov  %ax, %fs
    mov  %ax, %gs
    movabs $boot_stack_end, %rsp
    mov  %esi, %edi
    xor  %ebp, %ebp
    movabs $kernel_entry, %rax
    call *%rax
    ud2

# ---- the other processors -------------------------------------------------------------------------------------
# Copied to physical 0x8000. AP_BASE-relative, since it does not run where it is linked.
.code16
.global ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    xor  %ax, %ax
    mov  %ax, %ds
    lgdtl 0x8000 + (ap_gdt_pointer - ap_trampoline)
    mov  $1, %eax
    mov  %eax, %cr0
    ljmpl $0x18, $ap32
    .balign 8
ap_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
ap_trampoline_end:

.code32
ap32:
    mov  $0x20, %ax
    mov  %ax, %ds
    mov  %ax, %es
    mov  %ax, %ss
    mov  $boot_stack_low_end, %esp
    call enable_long_mode
    ljmp $0x08, $ap64
.code64
ap64:
    mov  $0x10, %ax
    mov  %ax, %ds
    mov  %ax, %es
    mov  %ax, %ss
    xor  %eax, %eax
    mov  %ax, %fs
    mov  %ax, %gs
    movabs $ap_high, %rax       # leave the identity mapping before it goes
    jmp  *%rax

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08 64-bit code
    .quad 0x00cf93000000ffff    # 0x10 data
    .quad 0x00cf9b000000ffff    # 0x18 32-bit code
    .quad 0x00cf93000000ffff    # 0x20 32-bit data
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt

    .balign 16
    .skip 256                   # one processor at a time starts up: one return address is all it holds
boot_stack_low_end:

.section .boot.tables, "aw", @progbits
.balign 4096
boot_pml4:
    .quad boot_pdpt_low + 3     # identity: the code that turns paging on
    .skip 255 * 8
    .quad boot_pdpt_low + 3     # entry 256, 0xffff800000000000: the direct map
    .skip 254 * 8
    .quad boot_pdpt_high + 3    # entry 511
boot_pdpt_low:
    .quad boot_pd + 3
    .skip 511 * 8
boot_pdpt_high:
    .skip 510 * 8
    .quad boot_pd + 3           # 0xffffffff80000000
    .quad 0
boot_pd:
    .set page, 0
    .rept 512
    .quad page + 0x83           # present, writable, 2 MiB
    .set page, page + 0x200000
    .endr

.text
ap_high:
    mov  ap_cr3(%rip), %rax     # the kernel's own tables, which replace the boot ones
    mov  %rax, %cr3
    mov  ap_stack(%rip), %rsp
    mov  ap_argument(%rip), %rdi
    xor  %ebp, %ebp
    call processor_entry
    ud2

.section .bss
.balign 16
    .skip 32768
boot_stack_end:

# What the processor being started up finds: written by arch::processors before each start-up IPI.
.section .data
.balign 8
.global ap_cr3, ap_stack, ap_argument
ap_cr3: .quad 0
ap_stack: .quad 0
ap_argument: .quad 0

.text
