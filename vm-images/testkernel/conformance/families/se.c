// build: -fno-strict-aliasing
/* Security: identifiers, access control lists, descriptors, and whether somebody may. */
#include <check.h>

/* The headers forget that it is imported: this is what leads to the pointer. */
extern PSE_EXPORTS *__imp_SeExports;

NTSYSAPI ULONG NTAPI RtlLengthRequiredSid(ULONG SubAuthorityCount);
NTSYSAPI NTSTATUS NTAPI RtlGetSaclSecurityDescriptor(PSECURITY_DESCRIPTOR, PBOOLEAN, PACL *, PBOOLEAN);
NTSYSAPI BOOLEAN NTAPI RtlAreAllAccessesGranted(ACCESS_MASK, ACCESS_MASK);
NTSYSAPI BOOLEAN NTAPI RtlAreAnyAccessesGranted(ACCESS_MASK, ACCESS_MASK);

/* Identifiers, written out: revision, count, authority, subauthorities. */
static UCHAR world[] = { 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 };
static UCHAR local_system[] = { 1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0 };
static UCHAR administrators[] = { 1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0 };
static UCHAR guests[] = { 1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x22, 2, 0, 0 };
static UCHAR creator_owner[] = { 1, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0 };

static GENERIC_MAPPING mapping = { 0x00020001, 0x00020002, 0x00020004, 0x000F0007 };

static int is_sid(PSID sid, const UCHAR *bytes)
{
    ULONG length = RtlLengthSid((PSID)bytes);
    return sid && RtlCompareMemory(sid, bytes, length) == length;
}

static void identifiers(void)
{
    SID_IDENTIFIER_AUTHORITY nt = { { 0, 0, 0, 0, 0, 5 } };
    ULONG room[8];
    PSID sid = room;
    UNICODE_STRING text;
    WCHAR buffer[16];

    RULE("RtlLengthRequiredSid function", "eight bytes and four for each subauthority") {
        EXPECT_EQ(RtlLengthRequiredSid(0), 8);
        EXPECT_EQ(RtlLengthRequiredSid(2), sizeof(administrators));
    }
    RULE("RtlInitializeSid function", "everything but the subauthorities, which RtlSubAuthoritySid gives access to") {
        EXPECT_STATUS(RtlInitializeSid(sid, &nt, 2), STATUS_SUCCESS);
        *RtlSubAuthoritySid(sid, 0) = 32;
        *RtlSubAuthoritySid(sid, 1) = 544;
        EXPECT(is_sid(sid, administrators));
        EXPECT_EQ(RtlLengthSid(sid), sizeof(administrators));
    }
    RULE("RtlValidSid function", "the revision is known, and there are no more than SID_MAX_SUB_AUTHORITIES") {
        EXPECT(RtlValidSid(sid));
        ((PUCHAR)sid)[0] = 2;
        EXPECT(!RtlValidSid(sid));
        ((PUCHAR)sid)[0] = 1;
        ((PUCHAR)room)[1] = SID_MAX_SUB_AUTHORITIES + 1;
        EXPECT(!RtlValidSid(sid));
    }
    RULE("RtlEqualSid function", "TRUE where both are the same in everything") {
        EXPECT(RtlEqualSid(administrators, administrators));
        EXPECT(!RtlEqualSid(administrators, guests));
        EXPECT(!RtlEqualSid(world, local_system));
    }
    RULE("RtlCopySid function", "copies it; STATUS_BUFFER_TOO_SMALL where it does not fit") {
        RtlFillMemory(room, sizeof(room), 0xEE);
        EXPECT_STATUS(RtlCopySid(sizeof(administrators) - 1, sid, administrators), STATUS_BUFFER_TOO_SMALL);
        EXPECT(bytes_are(room, 0xEE, sizeof(room)));
        EXPECT_STATUS(RtlCopySid(sizeof(room), sid, administrators), STATUS_SUCCESS);
        EXPECT(RtlEqualSid(sid, administrators));
    }
    RULE("RtlConvertSidToUnicodeString function", "S-R-I-S..., in a buffer that RtlFreeUnicodeString frees") {
        UNICODE_STRING expected = RTL_CONSTANT_STRING(L"S-1-5-32-544");
        EXPECT_STATUS(RtlConvertSidToUnicodeString(&text, administrators, TRUE), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&text, &expected, FALSE));
        RtlFreeUnicodeString(&text);
    }
    RULE("RtlConvertSidToUnicodeString function", "in the caller's buffer; STATUS_BUFFER_OVERFLOW where that is too small") {
        UNICODE_STRING expected = RTL_CONSTANT_STRING(L"S-1-5-18");
        text.Buffer = buffer;
        text.Length = 0;
        text.MaximumLength = sizeof(buffer);
        EXPECT_STATUS(RtlConvertSidToUnicodeString(&text, local_system, FALSE), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&text, &expected, FALSE));
        text.MaximumLength = 10;
        EXPECT_STATUS(RtlConvertSidToUnicodeString(&text, local_system, FALSE), STATUS_BUFFER_OVERFLOW);
    }
    RULE("RtlConvertSidToUnicodeString function", "STATUS_INVALID_SID for what is none") {
        UCHAR none[8] = { 9 };
        EXPECT_STATUS(RtlConvertSidToUnicodeString(&text, none, TRUE), STATUS_INVALID_SID);
    }
    RULE("SE_EXPORTS structure", "well-known identifiers and privileges, for drivers to take from there") {
        PSE_EXPORTS exports = *__imp_SeExports;
        EXPECT(is_sid(exports->SeWorldSid, world));
        EXPECT(is_sid(exports->SeLocalSystemSid, local_system));
        EXPECT(is_sid(exports->SeAliasAdminsSid, administrators));
        EXPECT(is_sid(exports->SeAliasGuestsSid, guests));
        EXPECT(is_sid(exports->SeCreatorOwnerSid, creator_owner));
        EXPECT_EQ(exports->SeLoadDriverPrivilege.LowPart, SE_LOAD_DRIVER_PRIVILEGE);
        EXPECT_EQ(exports->SeDebugPrivilege.LowPart, SE_DEBUG_PRIVILEGE);
        EXPECT_EQ(exports->SeCreateGlobalPrivilege.LowPart, SE_CREATE_GLOBAL_PRIVILEGE);
    }
}

static ULONG list_memory[32];
#define LIST ((PACL)list_memory)

static void lists(void)
{
    PACCESS_ALLOWED_ACE entry;

    RULE("RtlCreateAcl function", "an empty list of that size") {
        EXPECT_STATUS(RtlCreateAcl(LIST, 64, ACL_REVISION), STATUS_SUCCESS);
        EXPECT_EQ(LIST->AclRevision, ACL_REVISION);
        EXPECT_EQ(LIST->AclSize, 64);
        EXPECT_EQ(LIST->AceCount, 0);
    }
    RULE("RtlCreateAcl function", "STATUS_BUFFER_TOO_SMALL for less than a header, STATUS_INVALID_PARAMETER for an unknown revision") {
        ULONG other[4];
        EXPECT_STATUS(RtlCreateAcl((PACL)other, sizeof(ACL) - 1, ACL_REVISION), STATUS_BUFFER_TOO_SMALL);
        EXPECT_STATUS(RtlCreateAcl((PACL)other, sizeof(other), 1), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlCreateAcl((PACL)other, sizeof(other), 5), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlAddAccessAllowedAce function", "an entry behind the others") {
        EXPECT_STATUS(RtlAddAccessAllowedAce(LIST, ACL_REVISION, 7, local_system), STATUS_SUCCESS);
        EXPECT_STATUS(RtlAddAccessAllowedAce(LIST, ACL_REVISION, 1, world), STATUS_SUCCESS);
        EXPECT_EQ(LIST->AceCount, 2);
        EXPECT_STATUS(RtlGetAce(LIST, 1, (PVOID *)&entry), STATUS_SUCCESS);
        EXPECT(entry->Header.AceType == ACCESS_ALLOWED_ACE_TYPE && entry->Header.AceFlags == 0);
        EXPECT_EQ(entry->Header.AceSize, 8 + sizeof(world));
        EXPECT(entry->Mask == 1 && is_sid(&entry->SidStart, world));
    }
    RULE("RtlAddAccessAllowedAce function", "STATUS_ALLOTTED_SPACE_EXCEEDED where the list has no room; nothing changes") {
        EXPECT_STATUS(RtlAddAccessAllowedAce(LIST, ACL_REVISION, 1, administrators), STATUS_ALLOTTED_SPACE_EXCEEDED);
        EXPECT_EQ(LIST->AceCount, 2);
    }
    RULE("RtlAddAccessAllowedAce function", "STATUS_INVALID_SID, STATUS_INVALID_ACL, STATUS_REVISION_MISMATCH") {
        UCHAR none[8] = { 9 };
        ACL broken = { 9, 0, sizeof(ACL), 0, 0 };
        EXPECT_STATUS(RtlAddAccessAllowedAce(LIST, ACL_REVISION, 1, none), STATUS_INVALID_SID);
        EXPECT_STATUS(RtlAddAccessAllowedAce(&broken, ACL_REVISION, 1, world), STATUS_INVALID_ACL);
        EXPECT_STATUS(RtlAddAccessAllowedAce(LIST, 9, 1, world), STATUS_REVISION_MISMATCH);
    }
    RULE("RtlGetAce function", "STATUS_INVALID_PARAMETER where there is no entry of that number") {
        EXPECT_STATUS(RtlGetAce(LIST, 2, (PVOID *)&entry), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlDeleteAce function", "those behind it move up") {
        EXPECT_STATUS(RtlDeleteAce(LIST, 0), STATUS_SUCCESS);
        EXPECT_EQ(LIST->AceCount, 1);
        EXPECT_STATUS(RtlGetAce(LIST, 0, (PVOID *)&entry), STATUS_SUCCESS);
        EXPECT(is_sid(&entry->SidStart, world));
        EXPECT_STATUS(RtlDeleteAce(LIST, 1), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlAddAccessAllowedAceEx function", "the same with flags of inheritance") {
        EXPECT_STATUS(RtlAddAccessAllowedAceEx(LIST, ACL_REVISION, OBJECT_INHERIT_ACE, 2, local_system), STATUS_SUCCESS);
        EXPECT_STATUS(RtlGetAce(LIST, 1, (PVOID *)&entry), STATUS_SUCCESS);
        EXPECT_EQ(entry->Header.AceFlags, OBJECT_INHERIT_ACE);
    }
    RULE("RtlAddAce function", "entries as they are, in front of that number") {
        struct {
            ACE_HEADER header;
            ACCESS_MASK mask;
            UCHAR sid[12];
        } denied = { { ACCESS_DENIED_ACE_TYPE, 0, 20 }, 4, { 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 } };
        EXPECT_STATUS(RtlCreateAcl(LIST, 64, ACL_REVISION), STATUS_SUCCESS);
        EXPECT_STATUS(RtlAddAccessAllowedAce(LIST, ACL_REVISION, 7, local_system), STATUS_SUCCESS);
        EXPECT_STATUS(RtlAddAce(LIST, ACL_REVISION, 0, &denied, sizeof(denied)), STATUS_SUCCESS);
        EXPECT_EQ(LIST->AceCount, 2);
        EXPECT_STATUS(RtlGetAce(LIST, 0, (PVOID *)&entry), STATUS_SUCCESS);
        EXPECT_EQ(entry->Header.AceType, ACCESS_DENIED_ACE_TYPE);
        EXPECT_STATUS(RtlGetAce(LIST, 1, (PVOID *)&entry), STATUS_SUCCESS);
        EXPECT(entry->Header.AceType == ACCESS_ALLOWED_ACE_TYPE && is_sid(&entry->SidStart, local_system));
        EXPECT_STATUS(RtlAddAce(LIST, ACL_REVISION, MAXULONG, &denied, sizeof(denied)), STATUS_BUFFER_TOO_SMALL);
    }
}

static void descriptors(void)
{
    SECURITY_DESCRIPTOR descriptor;
    ULONG block[32];
    ULONG length;
    PSID sid;
    PACL list;
    BOOLEAN present, defaulted;

    RtlCreateSecurityDescriptor(&descriptor, SECURITY_DESCRIPTOR_REVISION);
    RULE("RtlGetOwnerSecurityDescriptor function", "null where there is none") {
        sid = world;
        EXPECT_STATUS(RtlGetOwnerSecurityDescriptor(&descriptor, &sid, &defaulted), STATUS_SUCCESS);
        EXPECT(sid == NULL && !defaulted);
    }
    RULE("RtlSetOwnerSecurityDescriptor function", "the owner of an absolute descriptor, and whether it was a default") {
        EXPECT_STATUS(RtlSetOwnerSecurityDescriptor(&descriptor, administrators, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(RtlGetOwnerSecurityDescriptor(&descriptor, &sid, &defaulted), STATUS_SUCCESS);
        EXPECT(sid == (PSID)administrators && defaulted);
        EXPECT_STATUS(RtlSetOwnerSecurityDescriptor(&descriptor, administrators, FALSE), STATUS_SUCCESS);
        EXPECT_EQ(descriptor.Control, 0);
    }
    RULE("RtlSetGroupSecurityDescriptor function", "likewise the group") {
        EXPECT_STATUS(RtlSetGroupSecurityDescriptor(&descriptor, local_system, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(RtlGetGroupSecurityDescriptor(&descriptor, &sid, &defaulted), STATUS_SUCCESS);
        EXPECT(sid == (PSID)local_system && !defaulted);
    }
    RULE("RtlGetDaclSecurityDescriptor function", "whether there is a list, which, and whether it was a default") {
        EXPECT_STATUS(RtlGetDaclSecurityDescriptor(&descriptor, &present, &list, &defaulted), STATUS_SUCCESS);
        EXPECT(!present);
        RtlSetDaclSecurityDescriptor(&descriptor, TRUE, LIST, TRUE);
        EXPECT_STATUS(RtlGetDaclSecurityDescriptor(&descriptor, &present, &list, &defaulted), STATUS_SUCCESS);
        EXPECT(present && list == LIST && defaulted);
    }
    RULE("RtlGetSaclSecurityDescriptor function", "likewise the system list") {
        EXPECT_STATUS(RtlGetSaclSecurityDescriptor(&descriptor, &present, &list, &defaulted), STATUS_SUCCESS);
        EXPECT(!present);
    }
    RULE("RtlGetOwnerSecurityDescriptor function", "STATUS_UNKNOWN_REVISION for another revision") {
        SECURITY_DESCRIPTOR other = descriptor;
        other.Revision = 9;
        EXPECT_STATUS(RtlGetOwnerSecurityDescriptor(&other, &sid, &defaulted), STATUS_UNKNOWN_REVISION);
    }
    RULE("RtlAbsoluteToSelfRelativeSD function", "STATUS_BUFFER_TOO_SMALL with the length that it takes") {
        length = 0;
        EXPECT_STATUS(RtlAbsoluteToSelfRelativeSD(&descriptor, block, &length), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(length, 20 + sizeof(administrators) + sizeof(local_system) + LIST->AclSize);
    }
    RULE("RtlAbsoluteToSelfRelativeSD function", "all of it in one block") {
        EXPECT_STATUS(RtlAbsoluteToSelfRelativeSD(&descriptor, block, &length), STATUS_SUCCESS);
        EXPECT(((SECURITY_DESCRIPTOR *)block)->Control & SE_SELF_RELATIVE);
        EXPECT_EQ(RtlLengthSecurityDescriptor(block), length);
        EXPECT(RtlValidSecurityDescriptor(block));
        EXPECT_STATUS(RtlGetOwnerSecurityDescriptor(block, &sid, &defaulted), STATUS_SUCCESS);
        EXPECT(sid != (PSID)administrators && is_sid(sid, administrators));
        EXPECT_STATUS(RtlGetDaclSecurityDescriptor(block, &present, &list, &defaulted), STATUS_SUCCESS);
        EXPECT(present && list != LIST && list->AceCount == LIST->AceCount);
    }
    RULE("RtlAbsoluteToSelfRelativeSD function", "STATUS_BAD_DESCRIPTOR_FORMAT for one that is self-relative") {
        ULONG again[32], room = sizeof(again);
        EXPECT_STATUS(RtlAbsoluteToSelfRelativeSD(block, again, &room), STATUS_BAD_DESCRIPTOR_FORMAT);
    }
    RULE("RtlValidRelativeSecurityDescriptor function", "valid in so many bytes, and with the parts that are required") {
        EXPECT(RtlValidRelativeSecurityDescriptor(block, length, 0));
        EXPECT(RtlValidRelativeSecurityDescriptor(block, length, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION));
        EXPECT(!RtlValidRelativeSecurityDescriptor(block, length, SACL_SECURITY_INFORMATION));
        EXPECT(!RtlValidRelativeSecurityDescriptor(block, length - 4, 0));
        EXPECT(!RtlValidRelativeSecurityDescriptor(&descriptor, sizeof(descriptor), 0));
    }
    RULE("SeValidSecurityDescriptor function", "the same of one that has an owner") {
        EXPECT(SeValidSecurityDescriptor(length, block));
        EXPECT(!SeValidSecurityDescriptor(19, block));
        block[1] = 0;
        EXPECT(!SeValidSecurityDescriptor(length, block));
    }
    RULE("RtlSetOwnerSecurityDescriptor function", "STATUS_INVALID_SECURITY_DESCR for one that is self-relative") {
        EXPECT_STATUS(RtlSetOwnerSecurityDescriptor(block, world, FALSE), STATUS_INVALID_SECURITY_DESCR);
    }
}

static SECURITY_SUBJECT_CONTEXT subject;
static SECURITY_DESCRIPTOR object;
static ACCESS_MASK granted;
static NTSTATUS why;

static BOOLEAN check(ACCESS_MASK desired, KPROCESSOR_MODE mode)
{
    PPRIVILEGE_SET privileges = NULL;
    BOOLEAN allowed;
    granted = 0xEEEE;
    why = 0xEEEE;
    SeLockSubjectContext(&subject);
    allowed = SeAccessCheck(&object, &subject, TRUE, desired, 0, &privileges, &mapping, mode, &granted, &why);
    SeUnlockSubjectContext(&subject);
    if (privileges)
        SeFreePrivileges(privileges);
    return allowed;
}

static void access(void)
{
    SeCaptureSubjectContext(&subject);
    RULE("SeCaptureSubjectContext function", "the thread's own token, as it impersonates nobody") {
        EXPECT(subject.PrimaryToken && !subject.ClientToken);
        EXPECT(SeQuerySubjectContextToken(&subject) == subject.PrimaryToken);
    }
    RULE("SeLockSubjectContext function", "in a critical region until it is unlocked") {
        EXPECT(!KeAreApcsDisabled());
        SeLockSubjectContext(&subject);
        EXPECT(KeAreApcsDisabled());
        SeUnlockSubjectContext(&subject);
        EXPECT(!KeAreApcsDisabled());
    }
    RtlCreateSecurityDescriptor(&object, SECURITY_DESCRIPTOR_REVISION);
    RtlSetOwnerSecurityDescriptor(&object, guests, FALSE);
    RULE("SeAccessCheck function", "without a discretionary list everything is granted") {
        EXPECT(check(3, UserMode));
        EXPECT_EQ(granted, 3);
        EXPECT_STATUS(why, STATUS_SUCCESS);
        RtlSetDaclSecurityDescriptor(&object, TRUE, NULL, FALSE);
        EXPECT(check(3, UserMode));
    }
    RULE("SeAccessCheck function", "MAXIMUM_ALLOWED without a list: all that GENERIC_ALL stands for") {
        EXPECT(check(MAXIMUM_ALLOWED, UserMode));
        EXPECT_EQ(granted, mapping.GenericAll);
    }
    RtlCreateAcl(LIST, sizeof(list_memory), ACL_REVISION);
    RtlSetDaclSecurityDescriptor(&object, TRUE, LIST, FALSE);
    RULE("SeAccessCheck function", "an empty list grants nothing: STATUS_ACCESS_DENIED") {
        EXPECT(!check(1, UserMode));
        EXPECT_EQ(granted, 0);
        EXPECT_STATUS(why, STATUS_ACCESS_DENIED);
    }
    RULE("SeAccessCheck function", "the kernel itself is granted what it asks for") {
        EXPECT(check(5, KernelMode));
        EXPECT_EQ(granted, 5);
        EXPECT(check(MAXIMUM_ALLOWED, KernelMode));
        EXPECT_EQ(granted, mapping.GenericAll);
    }
    RULE("SeAccessCheck function", "the owner may read and change the list") {
        RtlSetOwnerSecurityDescriptor(&object, administrators, FALSE);
        EXPECT(check(READ_CONTROL | WRITE_DAC, UserMode));
        EXPECT_EQ(granted, READ_CONTROL | WRITE_DAC);
        EXPECT(!check(WRITE_DAC | 1, UserMode));
        EXPECT(check(MAXIMUM_ALLOWED, UserMode));
        EXPECT_EQ(granted, READ_CONTROL | WRITE_DAC);
        RtlSetOwnerSecurityDescriptor(&object, guests, FALSE);
        EXPECT(!check(WRITE_DAC, UserMode));
    }
    RULE("SeAccessCheck function", "what entries allow, together, to the token and its groups") {
        RtlAddAccessAllowedAce(LIST, ACL_REVISION, 1, local_system);
        RtlAddAccessAllowedAce(LIST, ACL_REVISION, 2, world);
        RtlAddAccessAllowedAce(LIST, ACL_REVISION, 4, guests);
        EXPECT(check(3, UserMode));
        EXPECT_EQ(granted, 3);
        EXPECT(!check(4, UserMode));
        EXPECT(check(MAXIMUM_ALLOWED, UserMode));
        EXPECT_EQ(granted, 3);
    }
    RULE("SeAccessCheck function", "an entry in front that denies comes first") {
        struct {
            ACE_HEADER header;
            ACCESS_MASK mask;
            UCHAR sid[12];
        } denied = { { ACCESS_DENIED_ACE_TYPE, 0, 20 }, 2, { 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 } };
        RtlAddAce(LIST, ACL_REVISION, 0, &denied, sizeof(denied));
        EXPECT(!check(3, UserMode));
        EXPECT(check(1, UserMode));
        EXPECT(check(MAXIMUM_ALLOWED, UserMode));
        EXPECT_EQ(granted, 1);
    }
    RULE("SeAccessCheck function", "ACCESS_SYSTEM_SECURITY takes a privilege that is not on: STATUS_PRIVILEGE_NOT_HELD") {
        EXPECT(!check(ACCESS_SYSTEM_SECURITY, UserMode));
        EXPECT_STATUS(why, STATUS_PRIVILEGE_NOT_HELD);
    }
    RULE("RtlAreAllAccessesGranted function", "and RtlAreAnyAccessesGranted compare what is granted with what is wanted") {
        EXPECT(RtlAreAllAccessesGranted(7, 5) && !RtlAreAllAccessesGranted(3, 5));
        EXPECT(RtlAreAnyAccessesGranted(3, 5) && !RtlAreAnyAccessesGranted(2, 5));
    }
    RULE("SeSinglePrivilegeCheck function", "TRUE for the kernel; for user mode, whether the privilege is held and on") {
        EXPECT(SeSinglePrivilegeCheck(RtlConvertLongToLuid(SE_SECURITY_PRIVILEGE), KernelMode));
        EXPECT(SeSinglePrivilegeCheck(RtlConvertLongToLuid(SE_TCB_PRIVILEGE), UserMode));
        EXPECT(!SeSinglePrivilegeCheck(RtlConvertLongToLuid(SE_LOAD_DRIVER_PRIVILEGE), UserMode));
    }
    RULE("SePrivilegeCheck function", "all of them or one, as the set says; those that are held are marked as used") {
        struct {
            ULONG count, control;
            LUID_AND_ATTRIBUTES privileges[2];
        } set = { 2, PRIVILEGE_SET_ALL_NECESSARY,
                  { { { SE_TCB_PRIVILEGE, 0 }, 0 }, { { SE_BACKUP_PRIVILEGE, 0 }, 0 } } };
        EXPECT(!SePrivilegeCheck((PPRIVILEGE_SET)&set, &subject, UserMode));
        set.control = 0;
        EXPECT(SePrivilegeCheck((PPRIVILEGE_SET)&set, &subject, UserMode));
        EXPECT(set.privileges[0].Attributes & SE_PRIVILEGE_USED_FOR_ACCESS);
        EXPECT(!(set.privileges[1].Attributes & SE_PRIVILEGE_USED_FOR_ACCESS));
        set.control = PRIVILEGE_SET_ALL_NECESSARY;
        EXPECT(SePrivilegeCheck((PPRIVILEGE_SET)&set, &subject, KernelMode));
    }
    RULE("SeQueryInformationToken function", "TokenUser, in memory that ExFreePool frees") {
        PTOKEN_USER user = NULL;
        EXPECT_STATUS(SeQueryInformationToken(subject.PrimaryToken, TokenUser, (PVOID *)&user), STATUS_SUCCESS);
        EXPECT(user && is_sid(user->User.Sid, local_system));
        ExFreePool(user);
    }
    RULE("SeQueryInformationToken function", "TokenGroups: administrators and everyone among them") {
        PTOKEN_GROUPS groups = NULL;
        ULONG i, found = 0;
        EXPECT_STATUS(SeQueryInformationToken(subject.PrimaryToken, TokenGroups, (PVOID *)&groups), STATUS_SUCCESS);
        for (i = 0; groups && i < groups->GroupCount; i++)
            found += is_sid(groups->Groups[i].Sid, administrators) || is_sid(groups->Groups[i].Sid, world);
        EXPECT_EQ(found, 2);
        ExFreePool(groups);
    }
    RULE("SeQueryInformationToken function", "STATUS_INVALID_INFO_CLASS for what is no class") {
        PVOID nothing = NULL;
        EXPECT_STATUS(SeQueryInformationToken(subject.PrimaryToken, 99, &nothing), STATUS_INVALID_INFO_CLASS);
    }
    RULE("SeTokenIsAdmin function", "TRUE for the system, whose token is a primary one and not restricted") {
        EXPECT(SeTokenIsAdmin(subject.PrimaryToken));
        EXPECT(!SeTokenIsRestricted(subject.PrimaryToken));
        EXPECT_EQ(SeTokenType(subject.PrimaryToken), TokenPrimary);
    }
    RULE("PsReferencePrimaryToken function", "the process's token, until PsDereferencePrimaryToken") {
        PACCESS_TOKEN token = PsReferencePrimaryToken(PsGetCurrentProcess());
        EXPECT(token == subject.PrimaryToken);
        PsDereferencePrimaryToken(token);
    }
}

static void creation(void)
{
    PSECURITY_DESCRIPTOR made = NULL;
    PSID sid;
    PACL list;
    PACCESS_ALLOWED_ACE entry;
    BOOLEAN present, defaulted;

    RULE("SeAssignSecurity function", "with nothing said: owner, group and list of the token's, self-relative") {
        EXPECT_STATUS(SeAssignSecurity(NULL, NULL, &made, FALSE, &subject, &mapping, PagedPool), STATUS_SUCCESS);
        EXPECT(SeValidSecurityDescriptor(RtlLengthSecurityDescriptor(made), made));
        RtlGetOwnerSecurityDescriptor(made, &sid, &defaulted);
        EXPECT(is_sid(sid, administrators));
        RtlGetGroupSecurityDescriptor(made, &sid, &defaulted);
        EXPECT(is_sid(sid, local_system));
        RtlGetDaclSecurityDescriptor(made, &present, &list, &defaulted);
        EXPECT(present && list && list->AceCount == 2);
        RtlGetAce(list, 0, (PVOID *)&entry);
        EXPECT(is_sid(&entry->SidStart, local_system));
        EXPECT_EQ(entry->Mask, mapping.GenericAll);
    }
    RULE("SeDeassignSecurity function", "frees it, and clears the pointer") {
        EXPECT_STATUS(SeDeassignSecurity(&made), STATUS_SUCCESS);
        EXPECT(made == NULL);
    }
    RULE("SeAssignSecurity function", "what is said counts, its generic rights mapped") {
        RtlCreateAcl(LIST, sizeof(list_memory), ACL_REVISION);
        RtlAddAccessAllowedAce(LIST, ACL_REVISION, GENERIC_READ, world);
        RtlSetOwnerSecurityDescriptor(&object, local_system, FALSE);
        RtlSetDaclSecurityDescriptor(&object, TRUE, LIST, FALSE);
        EXPECT_STATUS(SeAssignSecurity(NULL, &object, &made, FALSE, &subject, &mapping, NonPagedPool), STATUS_SUCCESS);
        RtlGetOwnerSecurityDescriptor(made, &sid, &defaulted);
        EXPECT(is_sid(sid, local_system));
        RtlGetDaclSecurityDescriptor(made, &present, &list, &defaulted);
        EXPECT(present && list->AceCount == 1);
        RtlGetAce(list, 0, (PVOID *)&entry);
        EXPECT_EQ(entry->Mask, mapping.GenericRead);
        SeDeassignSecurity(&made);
    }
    RULE("SeAssignSecurity function", "what the parent hands down, where nothing is said; CREATOR OWNER becomes the owner") {
        RtlCreateAcl(LIST, sizeof(list_memory), ACL_REVISION);
        RtlAddAccessAllowedAce(LIST, ACL_REVISION, 7, world);
        RtlAddAccessAllowedAceEx(LIST, ACL_REVISION, OBJECT_INHERIT_ACE | INHERIT_ONLY_ACE, GENERIC_ALL, creator_owner);
        EXPECT_STATUS(SeAssignSecurity(&object, NULL, &made, FALSE, &subject, &mapping, PagedPool), STATUS_SUCCESS);
        RtlGetDaclSecurityDescriptor(made, &present, &list, &defaulted);
        EXPECT(present && list->AceCount == 1);
        RtlGetAce(list, 0, (PVOID *)&entry);
        EXPECT(is_sid(&entry->SidStart, administrators));
        EXPECT_EQ(entry->Mask, mapping.GenericAll);
        EXPECT_EQ(entry->Header.AceFlags, 0);
        SeDeassignSecurity(&made);
    }
    RULE("SeAssignSecurity function", "STATUS_INVALID_OWNER for an owner that the token may not assign") {
        RtlSetOwnerSecurityDescriptor(&object, guests, FALSE);
        EXPECT_STATUS(SeAssignSecurity(NULL, &object, &made, FALSE, &subject, &mapping, PagedPool), STATUS_INVALID_OWNER);
    }
    RULE("SeReleaseSubjectContext function", "its references go") {
        SeReleaseSubjectContext(&subject);
        EXPECT(!subject.PrimaryToken && !subject.ClientToken);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    identifiers();
    lists();
    descriptors();
    access();
    creation();
    (void)driver;
    (void)path;
}

SUITE("Security")
