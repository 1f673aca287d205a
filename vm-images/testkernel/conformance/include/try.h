/*
 * __try and __except for gcc, which has no words for them.
 *
 * The function names `__C_specific_handler` as its handler and carries the table that the handler reads, with one scope. What is
 * guarded is a call, so that the compiler can move nothing into or out of the scope.
 *
 *     ULONG caught = guarded(routine, context);     // the exception's code, or 0
 */
#ifndef SQUALL_TRY_H
#define SQUALL_TRY_H

#include <ntifs.h>

/* What the driver kit's headers leave to those of user mode. */
typedef struct _FUNCTION_ENTRY {
    ULONG BeginAddress;
    ULONG EndAddress;
    ULONG UnwindData;
} FUNCTION_ENTRY;

NTSYSAPI FUNCTION_ENTRY *NTAPI RtlLookupFunctionEntry(ULONG64 pc, ULONG64 *base, PVOID history);
NTSYSAPI PVOID NTAPI RtlVirtualUnwind(ULONG kind, ULONG64 base, ULONG64 pc, FUNCTION_ENTRY *entry, PCONTEXT context,
                                      PVOID *data, ULONG64 *establisher, PVOID pointers);
NTSYSAPI VOID NTAPI RtlCaptureContext(PCONTEXT context);
NTSYSAPI PVOID NTAPI RtlPcToFileHeader(PVOID address, PVOID *base);

/* The last exception that a filter below was asked about. */
static EXCEPTION_RECORD try_record;
static CONTEXT try_context;
static ULONG try_filtered;

/* EXCEPTION_EXECUTE_HANDLER. */
static LONG __attribute__((used, noinline)) try_take(PEXCEPTION_POINTERS pointers, PVOID frame)
{
    (void)frame;
    try_record = *pointers->ExceptionRecord;
    try_context = *pointers->ContextRecord;
    try_filtered++;
    return 1;
}

/* EXCEPTION_CONTINUE_SEARCH. */
static LONG __attribute__((used, noinline)) try_pass(PEXCEPTION_POINTERS pointers, PVOID frame)
{
    (void)pointers;
    (void)frame;
    try_filtered++;
    return 0;
}

/*
 * Calls routine(context) with a scope around it; `filter` is the name of a filter, or 1. RAX holds the exception's code where
 * the handler goes on. Every register that the caller keeps is saved by the function's own prolog.
 */
#define GUARD(name, filter)                                                                    \
    ULONG name(void (*routine)(PVOID), PVOID context);                                         \
    __asm__(".text\n\t.globl " #name "\n\t.def " #name "; .scl 2; .type 32; .endef\n"          \
            "\t.seh_proc " #name "\n" #name ":\n"                                              \
            "\tpushq %rbx\n\t.seh_pushreg %rbx\n"                                              \
            "\tsubq $32, %rsp\n\t.seh_stackalloc 32\n\t.seh_endprologue\n"                     \
            "\tmovq %rcx, %rax\n\tmovq %rdx, %rcx\n\tmovl $0x5AFE, %ebx\n"                     \
            "1:\tcall *%rax\n\tnop\n2:\n"                                                      \
            "\txorl %eax, %eax\n\tjmp 4f\n"                                                    \
            "3:\tcmpl $0x5AFE, %ebx\n\tje 4f\n\tmovl $0xBAD, %eax\n"                           \
            "4:\taddq $32, %rsp\n\tpopq %rbx\n\tret\n"                                         \
            "\t.seh_handler __C_specific_handler, @except, @unwind\n\t.seh_handlerdata\n"      \
            "\t.long 1\n\t.rva 1b, 2b\n\t" filter "\n\t.rva 3b\n\t.text\n\t.seh_endproc\n");

/* The same with __finally: `cleanup` is called whichever way the scope is left. */
#define FINALLY(name, cleanup)                                                                 \
    void name(void (*routine)(PVOID), PVOID context);                                          \
    __asm__(".text\n\t.globl " #name "\n\t.def " #name "; .scl 2; .type 32; .endef\n"          \
            "\t.seh_proc " #name "\n" #name ":\n"                                              \
            "\tsubq $40, %rsp\n\t.seh_stackalloc 40\n\t.seh_endprologue\n"                     \
            "\tmovq %rcx, %rax\n\tmovq %rdx, %rcx\n"                                           \
            "1:\tcall *%rax\n\tnop\n2:\n"                                                      \
            "\txorl %ecx, %ecx\n\tmovq %rsp, %rdx\n\tcall " #cleanup "\n"                      \
            "\taddq $40, %rsp\n\tret\n"                                                        \
            "\t.seh_handler __C_specific_handler, @except, @unwind\n\t.seh_handlerdata\n"      \
            "\t.long 1\n\t.rva 1b, 2b, " #cleanup "\n\t.long 0\n\t.text\n\t.seh_endproc\n");

#endif
