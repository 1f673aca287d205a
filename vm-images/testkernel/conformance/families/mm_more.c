/* More of the memory manager: reserved mappings, MDLs that advance, protection, nodes, and what may be asked. */
#include <check.h>
#include <try.h>

GUARD(guarded, ".rva try_take")

#define TAG 'vRnC'

__declspec(dllimport) PVOID NTAPI MmAllocateContiguousMemorySpecifyCacheNode(SIZE_T bytes, PHYSICAL_ADDRESS low,
                                                                             PHYSICAL_ADDRESS high, PHYSICAL_ADDRESS boundary,
                                                                             MEMORY_CACHING_TYPE type, ULONG node);
__declspec(dllimport) PVOID NTAPI MmAllocateMappingAddress(SIZE_T bytes, ULONG tag);
__declspec(dllimport) VOID NTAPI MmFreeMappingAddress(PVOID address, ULONG tag);
__declspec(dllimport) PVOID NTAPI MmMapVideoDisplay(PHYSICAL_ADDRESS address, SIZE_T bytes, MEMORY_CACHING_TYPE type);
__declspec(dllimport) VOID NTAPI MmUnmapVideoDisplay(PVOID address, SIZE_T bytes);
__declspec(dllimport) LOGICAL NTAPI MmIsDriverVerifyingByAddress(PVOID address);
__declspec(dllimport) NTSTATUS NTAPI MmIsVerifierEnabled(PULONG flags);

static PHYSICAL_ADDRESS none;

static void reserved(PUCHAR buffer)
{
    PUCHAR address = NULL, shown;
    PMDL mdl = IoAllocateMdl(buffer + 16, 2 * PAGE_SIZE - 16, FALSE, FALSE, NULL);
    PMDL large = IoAllocateMdl(buffer, 4 * PAGE_SIZE, FALSE, FALSE, NULL);

    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    MmProbeAndLockPages(large, KernelMode, IoWriteAccess);
    RULE("MmAllocateMappingAddress function", "reserves addresses, page-aligned; nothing is there") {
        address = MmAllocateMappingAddress(3 * PAGE_SIZE, TAG);
        EXPECT(address != NULL);
        EXPECT_EQ((ULONG_PTR)address & (PAGE_SIZE - 1), 0);
        EXPECT(!MmIsAddressValid(address));
    }
    if (!address)
        return;
    RULE("MmMapLockedPagesWithReservedMapping function", "the MDL's pages appear there, at the MDL's offset") {
        shown = MmMapLockedPagesWithReservedMapping(address, TAG, mdl, MmCached);
        EXPECT(shown == address + 16);
        EXPECT(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
        shown[0] = 0x71;
        shown[2 * PAGE_SIZE - 17] = 0x72;
        EXPECT(buffer[16] == 0x71 && buffer[2 * PAGE_SIZE - 1] == 0x72);
    }
    RULE("MmMapLockedPagesWithReservedMapping function", "MappedSystemVa is without the offset") {
        EXPECT(mdl->MappedSystemVa == address);
    }
    RULE("MmUnmapReservedMapping function", "takes the mapping away; the addresses stay reserved") {
        MmUnmapReservedMapping(address, TAG, mdl);
        EXPECT(!MmIsAddressValid(address) && !MmIsAddressValid(address + PAGE_SIZE));
        EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
    }
    RULE("MmMapLockedPagesWithReservedMapping function", "NULL where the MDL spans more than was reserved") {
        EXPECT(MmMapLockedPagesWithReservedMapping(address, TAG, large, MmCached) == NULL);
    }
    RULE("MmMapLockedPagesWithReservedMapping function", "again and again, at DISPATCH_LEVEL too") {
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        int wrong = 0;
        for (int i = 0; i < 5; i++) {
            shown = MmMapLockedPagesWithReservedMapping(address, TAG, mdl, MmNonCached);
            if (!shown)
                wrong++;
            else
                shown[1] = (UCHAR)i;
            wrong += buffer[17] != i;
            MmUnmapReservedMapping(address, TAG, mdl);
        }
        KeLowerIrql(irql);
        EXPECT_EQ(wrong, 0);
    }
    RULE("MmFreeMappingAddress function", "gives the addresses back") {
        MmFreeMappingAddress(address, TAG);
        EXPECT(!MmIsAddressValid(address));
    }
    MmUnlockPages(large);
    MmUnlockPages(mdl);
    IoFreeMdl(large);
    IoFreeMdl(mdl);
}

static void advancing(PUCHAR buffer)
{
    PMDL mdl = IoAllocateMdl(buffer + 100, 3 * PAGE_SIZE, FALSE, FALSE, NULL);

    MmBuildMdlForNonPagedPool(mdl);
    RULE("MmAdvanceMdl function", "the MDL begins so many bytes later and is so much shorter") {
        EXPECT_STATUS(MmAdvanceMdl(mdl, 50), STATUS_SUCCESS);
        EXPECT(MmGetMdlVirtualAddress(mdl) == buffer + 150);
        EXPECT_EQ(MmGetMdlByteCount(mdl), 3 * PAGE_SIZE - 50);
        EXPECT(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority) == buffer + 150);
    }
    RULE("MmAdvanceMdl function", "pages that are passed are no longer the MDL's") {
        EXPECT_STATUS(MmAdvanceMdl(mdl, 2 * PAGE_SIZE), STATUS_SUCCESS);
        EXPECT(MmGetMdlVirtualAddress(mdl) == buffer + 150 + 2 * PAGE_SIZE);
        EXPECT_EQ(MmGetMdlByteOffset(mdl), (ULONG)(((ULONG_PTR)buffer + 150) & (PAGE_SIZE - 1)));
        EXPECT_EQ(MmGetMdlByteCount(mdl), PAGE_SIZE - 50);
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], MmGetPhysicalAddress(buffer + 150 + 2 * PAGE_SIZE).QuadPart >> PAGE_SHIFT);
    }
    RULE("MmAdvanceMdl function", "STATUS_INVALID_PARAMETER_2 for more bytes than there are") {
        EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE), STATUS_INVALID_PARAMETER_2);
        EXPECT_EQ(MmGetMdlByteCount(mdl), PAGE_SIZE - 50);
    }
    IoFreeMdl(mdl);
    RULE("MmAdvanceMdl function", "a list that is mapped is unmapped by its new address") {
        PUCHAR shown;
        mdl = IoAllocateMdl(buffer, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
        MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
        shown = MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
        EXPECT(shown != NULL);
        EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE + 4), STATUS_SUCCESS);
        EXPECT((PUCHAR)mdl->MappedSystemVa == shown + PAGE_SIZE + 4);
        MmUnlockPages(mdl);
        EXPECT(!MmIsAddressValid(shown + PAGE_SIZE));
        IoFreeMdl(mdl);
    }
}

static void lock_for_writing(PVOID mdl)
{
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
}

static void protection(PUCHAR buffer)
{
    PMDL mdl = IoAllocateMdl(buffer, PAGE_SIZE, FALSE, FALSE, NULL), built = IoAllocateMdl(buffer, 16, FALSE, FALSE, NULL);
    PUCHAR shown;

    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    RULE("MmProtectMdlSystemAddress function", "STATUS_NOT_MAPPED_VIEW where the MDL is not mapped") {
        EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
        MmBuildMdlForNonPagedPool(built);
        EXPECT_STATUS(MmProtectMdlSystemAddress(built, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    }
    shown = MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    RULE("MmProtectMdlSystemAddress function", "STATUS_INVALID_PAGE_PROTECTION for what is no protection") {
        EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, 0), STATUS_INVALID_PAGE_PROTECTION);
        EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, 0xFFFF), STATUS_INVALID_PAGE_PROTECTION);
    }
    RULE("MmProtectMdlSystemAddress function", "a read-only mapping is not locked for writing, until it is writable again") {
        PMDL over = IoAllocateMdl(shown, 16, FALSE, FALSE, NULL);
        buffer[0] = 0x33;
        EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
        EXPECT_EQ(shown[0], 0x33);
        EXPECT_STATUS(guarded(lock_for_writing, over), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READWRITE), STATUS_SUCCESS);
        shown[0] = 0x34;
        EXPECT_EQ(buffer[0], 0x34);
        EXPECT_EQ(guarded(lock_for_writing, over), 0);
        MmUnlockPages(over);
        IoFreeMdl(over);
    }
    MmUnmapLockedPages(shown, mdl);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    IoFreeMdl(built);
}

static void asked(PDRIVER_OBJECT driver)
{
    PHYSICAL_ADDRESS high = { .QuadPart = 0xFFFFFFFF }, rom = { .QuadPart = 0xFFFF0000 };
    ULONG flags = 0x5A5A;
    PUCHAR memory;

    RULE("MmAllocateContiguousMemorySpecifyCacheNode function", "contiguous memory; MM_ANY_NODE_OK takes any node") {
        memory = MmAllocateContiguousMemorySpecifyCacheNode(2 * PAGE_SIZE, none, high, none, MmCached, MM_ANY_NODE_OK);
        EXPECT(memory != NULL);
        EXPECT_EQ(MmGetPhysicalAddress(memory + PAGE_SIZE).QuadPart - MmGetPhysicalAddress(memory).QuadPart, PAGE_SIZE);
        MmFreeContiguousMemory(memory);
        memory = MmAllocateContiguousMemorySpecifyCacheNode(PAGE_SIZE, none, high, none, MmCached, 0);
        EXPECT(memory != NULL);
        MmFreeContiguousMemory(memory);
    }
    RULE("MmIsIoSpaceActive function", "TRUE as long as some of the range is mapped") {
        EXPECT(!MmIsIoSpaceActive(rom, PAGE_SIZE));
        memory = MmMapIoSpace(rom, 16, MmNonCached);
        EXPECT(MmIsIoSpaceActive(rom, PAGE_SIZE));
        rom.QuadPart += PAGE_SIZE;
        EXPECT(!MmIsIoSpaceActive(rom, PAGE_SIZE));
        rom.QuadPart -= PAGE_SIZE;
        MmUnmapIoSpace(memory, 16);
        EXPECT(!MmIsIoSpaceActive(rom, PAGE_SIZE));
    }
    RULE("MmMapVideoDisplay function", "device memory at an address of its own, until MmUnmapVideoDisplay") {
        memory = MmMapVideoDisplay(rom, PAGE_SIZE, MmNonCached);
        EXPECT(memory != NULL);
        EXPECT_EQ(MmGetPhysicalAddress(memory).QuadPart, rom.QuadPart);
        MmUnmapVideoDisplay(memory, PAGE_SIZE);
        EXPECT(!MmIsAddressValid(memory));
    }
    RULE("MmIsDriverVerifying function", "zero for a driver that nobody verifies, as of any of its addresses") {
        EXPECT(!MmIsDriverVerifying(driver));
        EXPECT(!MmIsDriverVerifyingByAddress(driver->DriverStart));
    }
    RULE("MmIsVerifierEnabled function", "STATUS_NOT_SUPPORTED where the Verifier is off") {
        EXPECT_STATUS(MmIsVerifierEnabled(&flags), STATUS_NOT_SUPPORTED);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    PUCHAR buffer = ExAllocatePoolWithTag(NonPagedPool, 5 * PAGE_SIZE, TAG);
    (void)path;
    reserved(buffer);
    advancing(buffer);
    protection(buffer);
    asked(driver);
    ExFreePoolWithTag(buffer, TAG);
}

SUITE("Mm further")
