/* Who may what: share access and security descriptors; and initialization that happens once. */
#include <check.h>

static FILE_OBJECT files[3];
static SHARE_ACCESS shared;

static NTSTATUS opened(int file, ACCESS_MASK desired, ULONG share, BOOLEAN update)
{
    return IoCheckShareAccess(desired, share, &files[file], &shared, update);
}

static void share_access(void)
{
    RULE("IoSetShareAccess function", "the first opener's access goes into the file object") {
        IoSetShareAccess(FILE_READ_DATA, FILE_SHARE_READ, &files[0], &shared);
        EXPECT(files[0].ReadAccess && !files[0].WriteAccess && !files[0].DeleteAccess);
        EXPECT(files[0].SharedRead && !files[0].SharedWrite && !files[0].SharedDelete);
    }
    RULE("IoCheckShareAccess function", "STATUS_SUCCESS for a reader who shares reading with a reader who does") {
        EXPECT_STATUS(opened(1, FILE_READ_DATA, FILE_SHARE_READ, FALSE), STATUS_SUCCESS);
    }
    RULE("IoCheckShareAccess function", "STATUS_SHARING_VIOLATION for an access that the other opener does not share") {
        EXPECT_STATUS(opened(1, FILE_WRITE_DATA, FILE_SHARE_READ, FALSE), STATUS_SHARING_VIOLATION);
        EXPECT_STATUS(opened(1, DELETE, FILE_SHARE_READ, FALSE), STATUS_SHARING_VIOLATION);
    }
    RULE("IoCheckShareAccess function", "STATUS_SHARING_VIOLATION where the other has what the new opener does not share") {
        EXPECT_STATUS(opened(1, FILE_READ_DATA, 0, FALSE), STATUS_SHARING_VIOLATION);
        EXPECT_STATUS(opened(1, FILE_READ_DATA, FILE_SHARE_WRITE, FALSE), STATUS_SHARING_VIOLATION);
    }
    RULE("IoCheckShareAccess function", "with Update of FALSE the opener does not count") {
        EXPECT_STATUS(opened(1, FILE_READ_DATA, FILE_SHARE_READ, FALSE), STATUS_SUCCESS);
        IoRemoveShareAccess(&files[0], &shared);
        EXPECT_STATUS(opened(2, FILE_READ_DATA | FILE_WRITE_DATA, 0, FALSE), STATUS_SUCCESS);
    }
    RULE("IoRemoveShareAccess function", "who is gone denies nothing any more") {
        IoSetShareAccess(FILE_READ_DATA | FILE_WRITE_DATA, 0, &files[0], &shared);
        EXPECT_STATUS(opened(1, FILE_READ_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, FALSE), STATUS_SHARING_VIOLATION);
        IoRemoveShareAccess(&files[0], &shared);
        EXPECT_STATUS(opened(1, FILE_READ_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, FALSE), STATUS_SUCCESS);
    }
    RULE("IoCheckShareAccess function", "with Update of TRUE the opener counts") {
        IoSetShareAccess(FILE_READ_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, &files[0], &shared);
        EXPECT_STATUS(opened(1, FILE_WRITE_DATA, FILE_SHARE_READ, TRUE), STATUS_SUCCESS);
        EXPECT(files[1].WriteAccess && files[1].SharedRead && !files[1].SharedWrite);
        EXPECT_STATUS(opened(2, FILE_WRITE_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, TRUE), STATUS_SHARING_VIOLATION);
        EXPECT_STATUS(opened(2, FILE_READ_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, FALSE), STATUS_SUCCESS);
    }
    RULE("IoUpdateShareAccess function", "counts an opener that was checked before") {
        EXPECT_STATUS(opened(2, FILE_READ_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, FALSE), STATUS_SUCCESS);
        IoUpdateShareAccess(&files[2], &shared);
        IoRemoveShareAccess(&files[0], &shared);
        IoRemoveShareAccess(&files[1], &shared);
        EXPECT_STATUS(opened(0, FILE_READ_DATA, FILE_SHARE_WRITE, FALSE), STATUS_SHARING_VIOLATION);
        IoRemoveShareAccess(&files[2], &shared);
        EXPECT_STATUS(opened(0, FILE_READ_DATA, FILE_SHARE_WRITE, FALSE), STATUS_SUCCESS);
    }
}

static void security(void)
{
    SECURITY_DESCRIPTOR descriptor;
    ACL acl = { ACL_REVISION, 0, sizeof(ACL), 0, 0 };

    RtlFillMemory(&descriptor, sizeof(descriptor), 0xEE);
    RULE("RtlCreateSecurityDescriptor function", "an absolute descriptor with nothing in it") {
        EXPECT_STATUS(RtlCreateSecurityDescriptor(&descriptor, SECURITY_DESCRIPTOR_REVISION), STATUS_SUCCESS);
        EXPECT_EQ(descriptor.Revision, SECURITY_DESCRIPTOR_REVISION);
        EXPECT_EQ(descriptor.Control, 0);
        EXPECT(!descriptor.Owner && !descriptor.Group && !descriptor.Sacl && !descriptor.Dacl);
    }
    RULE("RtlCreateSecurityDescriptor function", "STATUS_UNKNOWN_REVISION for any other revision") {
        SECURITY_DESCRIPTOR other;
        EXPECT_STATUS(RtlCreateSecurityDescriptor(&other, SECURITY_DESCRIPTOR_REVISION + 1), STATUS_UNKNOWN_REVISION);
    }
    RULE("RtlValidSecurityDescriptor function", "TRUE for a descriptor that was just made") {
        EXPECT(RtlValidSecurityDescriptor(&descriptor));
    }
    RULE("RtlValidSecurityDescriptor function", "FALSE for a revision that is unknown") {
        SECURITY_DESCRIPTOR other = descriptor;
        other.Revision = SECURITY_DESCRIPTOR_REVISION + 1;
        EXPECT(!RtlValidSecurityDescriptor(&other));
    }
    RULE("RtlLengthSecurityDescriptor function", "the structure alone where nothing is in it") {
        EXPECT_EQ(RtlLengthSecurityDescriptor(&descriptor), sizeof(descriptor));
    }
    RULE("RtlSetDaclSecurityDescriptor function", "sets the list and SE_DACL_PRESENT") {
        EXPECT_STATUS(RtlSetDaclSecurityDescriptor(&descriptor, TRUE, &acl, FALSE), STATUS_SUCCESS);
        EXPECT(descriptor.Dacl == &acl);
        EXPECT_EQ(descriptor.Control, SE_DACL_PRESENT);
    }
    RULE("RtlLengthSecurityDescriptor function", "counts the list that it leads to") {
        EXPECT_EQ(RtlLengthSecurityDescriptor(&descriptor), sizeof(descriptor) + sizeof(acl));
    }
    RULE("RtlSetDaclSecurityDescriptor function", "DaclDefaulted is SE_DACL_DEFAULTED; a null list is one all the same") {
        EXPECT_STATUS(RtlSetDaclSecurityDescriptor(&descriptor, TRUE, NULL, TRUE), STATUS_SUCCESS);
        EXPECT(descriptor.Dacl == NULL);
        EXPECT_EQ(descriptor.Control, SE_DACL_PRESENT | SE_DACL_DEFAULTED);
    }
    RULE("RtlSetDaclSecurityDescriptor function", "DaclPresent of FALSE: SE_DACL_PRESENT is clear") {
        EXPECT_STATUS(RtlSetDaclSecurityDescriptor(&descriptor, FALSE, NULL, FALSE), STATUS_SUCCESS);
        EXPECT_EQ(descriptor.Control & SE_DACL_PRESENT, 0);
    }
    RULE("RtlSetDaclSecurityDescriptor function", "STATUS_UNKNOWN_REVISION for a descriptor of another revision") {
        SECURITY_DESCRIPTOR other = descriptor;
        other.Revision = 7;
        EXPECT_STATUS(RtlSetDaclSecurityDescriptor(&other, TRUE, &acl, FALSE), STATUS_UNKNOWN_REVISION);
    }
    RULE("RtlMapGenericMask function", "each generic right becomes what it stands for; the others stay") {
        GENERIC_MAPPING mapping = { 0x1, 0x2, 0x4, 0xF };
        ACCESS_MASK mask = GENERIC_READ | GENERIC_EXECUTE | SYNCHRONIZE;
        RtlMapGenericMask(&mask, &mapping);
        EXPECT_EQ(mask, SYNCHRONIZE | 0x5);
        mask = GENERIC_ALL;
        RtlMapGenericMask(&mask, &mapping);
        EXPECT_EQ(mask, 0xF);
    }
    RULE("RtlEqualLuid function", "both halves count") {
        LUID first = { 1, 2 }, second = { 1, 2 };
        EXPECT(RtlEqualLuid(&first, &second));
        second.HighPart = 3;
        EXPECT(!RtlEqualLuid(&first, &second));
        second = first;
        second.LowPart = 0;
        EXPECT(!RtlEqualLuid(&first, &second));
    }
}

static RTL_RUN_ONCE once;
static LONG initializations;
static PVOID seen_parameter;
static ULONG succeed;

static ULONG NTAPI initialize(PRTL_RUN_ONCE run, PVOID parameter, PVOID *context)
{
    InterlockedIncrement(&initializations);
    seen_parameter = run == &once ? parameter : NULL;
    sleep_us(2000);
    *context = (PVOID)0x1230;
    return succeed;
}

static LONG agreeing;

static VOID NTAPI initializer(PVOID context)
{
    PVOID made = NULL;
    (void)context;
    if (RtlRunOnceExecuteOnce(&once, initialize, &once, &made) == STATUS_SUCCESS && made == (PVOID)0x1230)
        InterlockedIncrement(&agreeing);
}

static void run_once(void)
{
    PVOID made = NULL;

    RULE("RtlRunOnceInitialize function", "a structure whose initialization has not begun") {
        RtlFillMemory(&once, sizeof(once), 0xEE);
        RtlRunOnceInitialize(&once);
        EXPECT(!NT_SUCCESS(RtlRunOnceBeginInitialize(&once, RTL_RUN_ONCE_CHECK_ONLY, &made)));
    }
    RULE("RtlRunOnceExecuteOnce function", "fails where the routine fails, and tries again") {
        succeed = FALSE;
        EXPECT(!NT_SUCCESS(RtlRunOnceExecuteOnce(&once, initialize, &once, &made)));
        EXPECT(!NT_SUCCESS(RtlRunOnceExecuteOnce(&once, initialize, &once, &made)));
        EXPECT_EQ(initializations, 2);
    }
    RULE("RtlRunOnceExecuteOnce function", "gives the routine its parameter, and the caller the routine's context") {
        succeed = TRUE;
        EXPECT_STATUS(RtlRunOnceExecuteOnce(&once, initialize, &once, &made), STATUS_SUCCESS);
        EXPECT(made == (PVOID)0x1230);
        EXPECT(seen_parameter == &once);
    }
    RULE("RtlRunOnceExecuteOnce function", "every later call gives the same data, and the routine is not called again") {
        initializations = 0;
        made = NULL;
        EXPECT_STATUS(RtlRunOnceExecuteOnce(&once, initialize, &once, &made), STATUS_SUCCESS);
        EXPECT(made == (PVOID)0x1230);
        EXPECT_EQ(initializations, 0);
    }
    RULE("RtlRunOnceBeginInitialize function", "CHECK_ONLY gives the data of an initialization that is complete") {
        made = NULL;
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, RTL_RUN_ONCE_CHECK_ONLY, &made), STATUS_SUCCESS);
        EXPECT(made == (PVOID)0x1230);
    }
    RULE("RtlRunOnceExecuteOnce function", "of threads that come at once one initializes, and the others wait for it") {
        PKTHREAD threads[4];
        int i;
        RtlRunOnceInitialize(&once);
        for (i = 0; i < 4; i++)
            threads[i] = start_thread(initializer, NULL);
        for (i = 0; i < 4; i++)
            join_thread(threads[i]);
        EXPECT_EQ(initializations, 1);
        EXPECT_EQ(agreeing, 4);
    }
    RULE("RtlRunOnceBeginInitialize function", "STATUS_PENDING tells the caller to initialize; RtlRunOnceComplete ends it") {
        RtlRunOnceInitialize(&once);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, 0, &made), STATUS_PENDING);
        EXPECT_STATUS(RtlRunOnceComplete(&once, 0, (PVOID)0x4560), STATUS_SUCCESS);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, 0, &made), STATUS_SUCCESS);
        EXPECT(made == (PVOID)0x4560);
    }
    RULE("RtlRunOnceComplete function", "INIT_FAILED: the next caller is to initialize") {
        RtlRunOnceInitialize(&once);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, 0, &made), STATUS_PENDING);
        EXPECT_STATUS(RtlRunOnceComplete(&once, RTL_RUN_ONCE_INIT_FAILED, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, 0, &made), STATUS_PENDING);
        EXPECT_STATUS(RtlRunOnceComplete(&once, 0, NULL), STATUS_SUCCESS);
    }
    RULE("RtlRunOnceBeginInitialize function", "ASYNC lets several initialize; the first to complete wins") {
        RtlRunOnceInitialize(&once);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, RTL_RUN_ONCE_ASYNC, &made), STATUS_PENDING);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, RTL_RUN_ONCE_ASYNC, &made), STATUS_PENDING);
        EXPECT_STATUS(RtlRunOnceComplete(&once, RTL_RUN_ONCE_ASYNC, (PVOID)0x10), STATUS_SUCCESS);
        EXPECT(!NT_SUCCESS(RtlRunOnceComplete(&once, RTL_RUN_ONCE_ASYNC, (PVOID)0x20)));
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, RTL_RUN_ONCE_ASYNC, &made), STATUS_SUCCESS);
        EXPECT(made == (PVOID)0x10);
    }
    RULE("RtlRunOnceBeginInitialize function", "once begun with ASYNC, calls without it fail") {
        RtlRunOnceInitialize(&once);
        EXPECT_STATUS(RtlRunOnceBeginInitialize(&once, RTL_RUN_ONCE_ASYNC, &made), STATUS_PENDING);
        EXPECT(!NT_SUCCESS(RtlRunOnceBeginInitialize(&once, 0, &made)));
        EXPECT(!NT_SUCCESS(RtlRunOnceComplete(&once, 0, NULL)));
        EXPECT_STATUS(RtlRunOnceComplete(&once, RTL_RUN_ONCE_ASYNC, NULL), STATUS_SUCCESS);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    share_access();
    security();
    run_once();
}

SUITE("Access, run once")
