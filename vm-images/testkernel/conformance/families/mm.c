/* Memory: MDLs, contiguous and noncached memory, mappings, addresses, memory routines of the run-time library. */
#include <check.h>

#define TAG 'fnoC'

static void mdls(void)
{
    PUCHAR pages = ExAllocatePoolWithTag(NonPagedPool, 3 * PAGE_SIZE, TAG);
    PUCHAR buffer = pages + 100;
    ULONG length = PAGE_SIZE + 200;
    PMDL mdl = NULL;

    RULE("ADDRESS_AND_SIZE_TO_SPAN_PAGES macro", "pages that a range touches") {
        EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0x1000, 0x1000), 1);
        EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0x1FFF, 2), 2);
        EXPECT_EQ(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0x1000, 0), 0);
    }
    RULE("MmSizeOfMdl function", "the header and one frame number for each page") {
        EXPECT_EQ(MmSizeOfMdl(buffer, length), sizeof(MDL) + 2 * sizeof(PFN_NUMBER));
        EXPECT_EQ(MmSizeOfMdl(pages, PAGE_SIZE), sizeof(MDL) + sizeof(PFN_NUMBER));
    }
    RULE("IoAllocateMdl function", "describes the buffer: address, offset and length") {
        mdl = IoAllocateMdl(buffer, length, FALSE, FALSE, NULL);
        EXPECT(mdl != NULL);
        EXPECT(MmGetMdlVirtualAddress(mdl) == buffer);
        EXPECT_EQ(MmGetMdlByteCount(mdl), length);
        EXPECT_EQ(MmGetMdlByteOffset(mdl), 100);
    }
    RULE("MmBuildMdlForNonPagedPool function", "fills in the frames; the system address is the buffer's own") {
        PPFN_NUMBER frames = MmGetMdlPfnArray(mdl);
        MmBuildMdlForNonPagedPool(mdl);
        EXPECT_EQ(frames[0], MmGetPhysicalAddress(pages).QuadPart >> PAGE_SHIFT);
        EXPECT_EQ(frames[1], MmGetPhysicalAddress(pages + PAGE_SIZE).QuadPart >> PAGE_SHIFT);
        EXPECT(mdl->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL);
        EXPECT(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority) == buffer);
    }
    RULE("IoBuildPartialMdl function", "describes a part of what another describes") {
        PMDL part = IoAllocateMdl(buffer + 50, 100, FALSE, FALSE, NULL);
        EXPECT(part != NULL);
        IoBuildPartialMdl(mdl, part, buffer + 50, 100);
        EXPECT(MmGetMdlVirtualAddress(part) == buffer + 50);
        EXPECT_EQ(MmGetMdlByteCount(part), 100);
        EXPECT_EQ(MmGetMdlPfnArray(part)[0], MmGetMdlPfnArray(mdl)[0]);
        IoFreeMdl(part);
    }
    RULE("IoBuildPartialMdl function", "a length of zero means up to the source's end") {
        PMDL part = IoAllocateMdl(buffer + 50, length - 50, FALSE, FALSE, NULL);
        IoBuildPartialMdl(mdl, part, buffer + 50, 0);
        EXPECT_EQ(MmGetMdlByteCount(part), length - 50);
        IoFreeMdl(part);
    }
    IoFreeMdl(mdl);
    RULE("MmProbeAndLockPages function", "locks the pages; MmUnlockPages lets them go") {
        mdl = IoAllocateMdl(buffer, length, FALSE, FALSE, NULL);
        MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
        EXPECT(mdl->MdlFlags & MDL_PAGES_LOCKED);
        MmUnlockPages(mdl);
        EXPECT(!(mdl->MdlFlags & MDL_PAGES_LOCKED));
    }
    RULE("MmMapLockedPagesSpecifyCache function", "another address of the same memory, until it is unmapped") {
        PUCHAR mapped;
        MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
        mapped = MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
        EXPECT(mapped != NULL);
        EXPECT_EQ((ULONG_PTR)mapped & (PAGE_SIZE - 1), 100);
        EXPECT(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
        buffer[0] = 0x17;
        buffer[length - 1] = 0x18;
        EXPECT_EQ(mapped[0], 0x17);
        EXPECT_EQ(mapped[length - 1], 0x18);
        mapped[1] = 0x19;
        EXPECT_EQ(buffer[1], 0x19);
        MmUnmapLockedPages(mapped, mdl);
        EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
        MmUnlockPages(mdl);
    }
    RULE("MmGetSystemAddressForMdlSafe macro", "maps the pages once and gives the same address from then on") {
        PVOID first, second;
        MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
        first = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
        second = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
        EXPECT(first != NULL);
        EXPECT(first == second);
        MmUnlockPages(mdl);
        EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
    }
    IoFreeMdl(mdl);
    RULE("MmInitializeMdl macro", "an MDL in the driver's own memory") {
        UCHAR room[256];
        PMDL own = (PMDL)(((ULONG_PTR)room + 15) & ~(ULONG_PTR)15);
        MmInitializeMdl(own, buffer, 64);
        MmBuildMdlForNonPagedPool(own);
        EXPECT_EQ(MmGetMdlByteCount(own), 64);
        EXPECT_EQ(MmGetMdlPfnArray(own)[0], MmGetPhysicalAddress(buffer).QuadPart >> PAGE_SHIFT);
    }
    RULE("IoAllocateMdl function", "with an IRP it becomes the IRP's MDL; a secondary one goes to the chain's end") {
        PIRP irp = IoAllocateIrp(1, FALSE);
        PMDL first = IoAllocateMdl(buffer, 10, FALSE, FALSE, irp);
        PMDL second = IoAllocateMdl(buffer, 10, TRUE, FALSE, irp);
        EXPECT(irp->MdlAddress == first);
        EXPECT(first->Next == second);
        EXPECT(second->Next == NULL);
        irp->MdlAddress = NULL;
        IoFreeMdl(second);
        IoFreeMdl(first);
        IoFreeIrp(irp);
    }
    ExFreePoolWithTag(pages, TAG);
    RULE("MmAllocatePagesForMdlEx function", "zeroed pages that can be mapped") {
        PHYSICAL_ADDRESS low = { .QuadPart = 0 }, high = { .QuadPart = -1 }, skip = { .QuadPart = 0 };
        PMDL made = MmAllocatePagesForMdlEx(low, high, skip, 2 * PAGE_SIZE, MmCached, 0);
        EXPECT(made != NULL);
        EXPECT_EQ(MmGetMdlByteCount(made), 2 * PAGE_SIZE);
        PUCHAR mapped = MmMapLockedPagesSpecifyCache(made, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
        EXPECT(mapped != NULL && bytes_are(mapped, 0, 2 * PAGE_SIZE));
        MmUnmapLockedPages(mapped, made);
        MmFreePagesFromMdl(made);
        ExFreePool(made);
    }
}

static void special(void)
{
    PHYSICAL_ADDRESS highest = { .QuadPart = 0xFFFFFFFF }, low = { .QuadPart = 0 }, any = { .QuadPart = 0 };

    RULE("MmAllocateContiguousMemory function", "page-aligned, physically contiguous, below the limit") {
        PUCHAR memory = MmAllocateContiguousMemory(5 * PAGE_SIZE, highest);
        EXPECT(memory != NULL);
        EXPECT_EQ((ULONG_PTR)memory & (PAGE_SIZE - 1), 0);
        LONGLONG first = MmGetPhysicalAddress(memory).QuadPart;
        for (int i = 1; i < 5; i++)
            EXPECT_EQ(MmGetPhysicalAddress(memory + i * PAGE_SIZE).QuadPart, first + i * PAGE_SIZE);
        EXPECT(first + 5 * PAGE_SIZE - 1 <= highest.QuadPart);
        RtlFillMemory(memory, 5 * PAGE_SIZE, 0x5A);
        MmFreeContiguousMemory(memory);
    }
    RULE("MmAllocateContiguousMemory function", "ISA's limit of 16 MB is kept") {
        PHYSICAL_ADDRESS isa = { .QuadPart = 0xFFFFFF };
        PVOID memory = MmAllocateContiguousMemory(2 * PAGE_SIZE, isa);
        EXPECT(memory != NULL);
        EXPECT(MmGetPhysicalAddress(memory).QuadPart + 2 * PAGE_SIZE - 1 <= 0xFFFFFF);
        MmFreeContiguousMemory(memory);
    }
    RULE("MmAllocateContiguousMemory function", "NULL where there is not so much") {
        EXPECT(MmAllocateContiguousMemory((SIZE_T)1 << 33, highest) == NULL);
    }
    RULE("MmAllocateContiguousMemorySpecifyCache function", "does not cross a multiple of the boundary") {
        PHYSICAL_ADDRESS boundary = { .QuadPart = 0x10000 };
        PVOID memory = MmAllocateContiguousMemorySpecifyCache(0x8000, low, highest, boundary, MmNonCached);
        EXPECT(memory != NULL);
        LONGLONG at = MmGetPhysicalAddress(memory).QuadPart;
        EXPECT_EQ(at >> 16, (at + 0x7FFF) >> 16);
        MmFreeContiguousMemorySpecifyCache(memory, 0x8000, MmNonCached);
        (void)any;
    }
    RULE("MmAllocateNonCachedMemory function", "page-aligned memory that can be used") {
        PUCHAR memory = MmAllocateNonCachedMemory(100);
        EXPECT(memory != NULL);
        EXPECT_EQ((ULONG_PTR)memory & (PAGE_SIZE - 1), 0);
        RtlFillMemory(memory, 100, 1);
        MmFreeNonCachedMemory(memory, 100);
    }
    RULE("MmMapIoSpace function", "another view of a physical range, at any offset in its page") {
        PUCHAR memory = MmAllocateContiguousMemory(PAGE_SIZE, highest);
        PHYSICAL_ADDRESS at = MmGetPhysicalAddress(memory);
        at.QuadPart += 0x123;
        PUCHAR mapped = MmMapIoSpace(at, 16, MmNonCached);
        EXPECT(mapped != NULL);
        EXPECT_EQ((ULONG_PTR)mapped & (PAGE_SIZE - 1), 0x123);
        memory[0x123] = 0x77;
        EXPECT_EQ(READ_REGISTER_UCHAR(mapped), 0x77);
        WRITE_REGISTER_UCHAR(mapped + 1, 0x78);
        EXPECT_EQ(memory[0x124], 0x78);
        MmUnmapIoSpace(mapped, 16);
        MmFreeContiguousMemory(memory);
    }
    RULE("MmIsAddressValid function", "TRUE for the driver's own memory, FALSE for null and what is no address") {
        int local;
        EXPECT(MmIsAddressValid(&local));
        EXPECT(MmIsAddressValid((PVOID)special));
        EXPECT(!MmIsAddressValid(NULL));
        EXPECT(!MmIsAddressValid((PVOID)0x0000900000000000ULL));
    }
    RULE("MmGetPhysicalAddress function", "keeps the offset in the page") {
        static UCHAR bytes[16];
        EXPECT_EQ(MmGetPhysicalAddress(bytes).QuadPart & (PAGE_SIZE - 1), (ULONG_PTR)bytes & (PAGE_SIZE - 1));
        EXPECT_EQ(MmGetPhysicalAddress(bytes + 1).QuadPart - MmGetPhysicalAddress(bytes).QuadPart,
                  ((ULONG_PTR)bytes & (PAGE_SIZE - 1)) != PAGE_SIZE - 1);
    }
    RULE("MmGetSystemRoutineAddress function", "the address of an exported routine, NULL for others") {
        UNICODE_STRING known = RTL_CONSTANT_STRING(L"KeStallExecutionProcessor");
        UNICODE_STRING unknown = RTL_CONSTANT_STRING(L"KeNoSuchRoutineAtAll");
        PVOID found = MmGetSystemRoutineAddress(&known);
        EXPECT(found != NULL);
        ((VOID(NTAPI *)(ULONG))found)(1);
        EXPECT(MmGetSystemRoutineAddress(&unknown) == NULL);
    }
    RULE("MmQuerySystemSize function", "one of the three sizes") {
        EXPECT(MmQuerySystemSize() <= MmLargeSystem);
    }
    RULE("MmLockPagableCodeSection macro", "a handle; the section may be used until it is unlocked") {
        PVOID handle = MmLockPagableDataSection((PVOID)special);
        EXPECT(handle != NULL);
        MmUnlockPagableImageSection(handle);
    }
}

static void memory(void)
{
    UCHAR a[64], b[64];

    RULE("RtlZeroMemory macro", "every byte and no other") {
        RtlFillMemory(a, 64, 0xEE);
        RtlZeroMemory(a + 1, 62);
        EXPECT(a[0] == 0xEE && a[63] == 0xEE && bytes_are(a + 1, 0, 62));
    }
    RULE("RtlMoveMemory macro", "ranges may overlap, either way") {
        for (int i = 0; i < 64; i++)
            a[i] = (UCHAR)i;
        RtlMoveMemory(a + 4, a, 32);
        EXPECT(a[4] == 0 && a[35] == 31 && a[36] == 36);
        for (int i = 0; i < 64; i++)
            a[i] = (UCHAR)i;
        RtlMoveMemory(a, a + 4, 32);
        EXPECT(a[0] == 4 && a[31] == 35 && a[32] == 32);
    }
    RULE("RtlCompareMemory function", "how many bytes are equal before the first that differs") {
        RtlFillMemory(a, 64, 1);
        RtlFillMemory(b, 64, 1);
        EXPECT_EQ(RtlCompareMemory(a, b, 64), 64);
        b[17] = 2;
        EXPECT_EQ(RtlCompareMemory(a, b, 64), 17);
        EXPECT_EQ(RtlCompareMemory(a, b, 0), 0);
    }
    RULE("RtlEqualMemory macro", "TRUE where all bytes are equal") {
        EXPECT(!RtlEqualMemory(a, b, 64));
        EXPECT(RtlEqualMemory(a, b, 17));
    }
    RULE("RtlCompareMemoryUlong function", "how many bytes are repetitions of a pattern") {
        ULONG words[4] = { 7, 7, 8, 7 };
        EXPECT_EQ(RtlCompareMemoryUlong(words, sizeof(words), 7), 8);
        EXPECT_EQ(RtlCompareMemoryUlong(words, sizeof(words), 9), 0);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    mdls();
    special();
    memory();
}

SUITE("Mm")
