# One stub for each of the 256 vectors, all of one size, so that the stub of vector n lies at trap_stubs + 16 n.
#
# A stub makes the stack look the same for every vector (a zero where the processor pushes no error code) and goes on in
# one of two tails, which save the registers as a TrapFrame. Interrupts save the SSE state as well: ISRs and DPCs are
# drivers' code, which uses it freely, and the interrupted code must not notice.

.text
.balign 16
.global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector == 10) || (vector == 11) || (vector == 12) || (vector == 13) || (vector == 14) || (vector == 17) || (vector == 21)
    .else
    push $0
    .endif
    push $vector
    .if (vector < 32) || (vector == 0x29) || (vector == 0x2C)
    jmp  exception_tail
    .else
    jmp  interrupt_tail
    .endif
    .set vector, vector + 1
    .endr

.macro save_registers
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
.endm

.balign 16
exception_tail:
    save_registers
    mov  %rsp, %rdi
    mov  %rsp, %rbp
    mov  %rsp, %r12
    and  $-16, %rsp
    call exception_entry        # comes back only from what was resolved
    jmp  return_from_trap

.balign 16
interrupt_tail:
    save_registers
    mov  %rsp, %rdi
    mov  %rsp, %r12
    xor  %ebp, %ebp             # the chain of frames ends here: what lies below is another story
    sub  $112, %rsp
    and  $-16, %rsp
    movaps %xmm0, (%rsp)
    movaps %xmm1, 16(%rsp)
    movaps %xmm2, 32(%rsp)
    movaps %xmm3, 48(%rsp)
    movaps %xmm4, 64(%rsp)
    movaps %xmm5, 80(%rsp)
    stmxcsr 96(%rsp)
    ldmxcsr %gs:0x180           # what drivers' code expects: the processor control block begins with it
    mov  %rsp, %rbx
    call interrupt_entry
    movaps (%rbx), %xmm0
    movaps 16(%rbx), %xmm1
    movaps 32(%rbx), %xmm2
    movaps 48(%rbx), %xmm3
    movaps 64(%rbx), %xmm4
    movaps 80(%rbx), %xmm5
    ldmxcsr 96(%rbx)
return_from_trap:
    mov  %r12, %rsp
    pop  %r15
    pop  %r14
    pop  %r13
    pop  %r12
    pop  %r11
    pop  %r10
    pop  %r9
    pop  %r8
    pop  %rdi
    pop  %rsi
    pop  %rbp
    pop  %rbx
    pop  %rdx
    pop  %rcx
    pop  %rax
    add  $16, %rsp              # vector and error code
    iretq
