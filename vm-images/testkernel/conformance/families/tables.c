/* Generic tables. */
#include <check.h>

typedef struct _ITEM {
    ULONG key;
    ULONG value;
} ITEM;

static LONG blocks;

static RTL_GENERIC_COMPARE_RESULTS NTAPI compare(struct _RTL_GENERIC_TABLE *table, PVOID first, PVOID second)
{
    ULONG left = ((ITEM *)first)->key, right = ((ITEM *)second)->key;
    return left < right ? GenericLessThan : left > right ? GenericGreaterThan : GenericEqual;
}

static PVOID NTAPI allocate(struct _RTL_GENERIC_TABLE *table, CLONG bytes)
{
    if (table->TableContext && blocks >= *(LONG *)table->TableContext)
        return NULL;
    blocks++;
    return ExAllocatePoolWithTag(NonPagedPool, bytes, 'lbaT');
}

static VOID NTAPI release(struct _RTL_GENERIC_TABLE *table, PVOID buffer)
{
    blocks--;
    ExFreePoolWithTag(buffer, 'lbaT');
}

#define COUNT 101

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    RTL_GENERIC_TABLE table;
    LONG limit = 1000;
    ULONG i;

    RtlInitializeGenericTable(&table, compare, allocate, release, &limit);
    RULE("RtlInitializeGenericTable function", "an empty table with the owner's context") {
        EXPECT(RtlIsGenericTableEmpty(&table));
        EXPECT_EQ(RtlNumberGenericTableElements(&table), 0);
        EXPECT_EQ(table.TableContext, &limit);
        EXPECT(RtlEnumerateGenericTable(&table, TRUE) == NULL);
        EXPECT(RtlGetElementGenericTable(&table, 0) == NULL);
    }
    RULE("RtlInsertElementGenericTable function", "copies the data, says that they are new") {
        for (i = 0; i < COUNT; i++) {
            ITEM item = { i * 37 % COUNT, i }, *made;
            BOOLEAN fresh = FALSE;
            made = RtlInsertElementGenericTable(&table, &item, sizeof(item), &fresh);
            EXPECT(made && made != &item && made->key == item.key && fresh);
        }
        EXPECT_EQ(RtlNumberGenericTableElements(&table), COUNT);
        EXPECT_EQ(blocks, COUNT);
        EXPECT(!RtlIsGenericTableEmpty(&table));
    }
    RULE("RtlInsertElementGenericTable function", "gives the element that is there, and says that it is not new") {
        ITEM item = { 5, 9999 }, *there;
        BOOLEAN fresh = TRUE;
        there = RtlInsertElementGenericTable(&table, &item, sizeof(item), &fresh);
        EXPECT(there && there->value != 9999 && !fresh);
        EXPECT_EQ(RtlNumberGenericTableElements(&table), COUNT);
    }
    RULE("RtlInsertElementGenericTable function", "null where the owner has no memory") {
        ITEM item = { 100000, 0 };
        BOOLEAN fresh = TRUE;
        limit = COUNT;
        EXPECT(RtlInsertElementGenericTable(&table, &item, sizeof(item), &fresh) == NULL);
        EXPECT(!fresh);
        EXPECT_EQ(RtlNumberGenericTableElements(&table), COUNT);
        limit = 1000;
    }
    RULE("RtlLookupElementGenericTable function", "the element like it, or null") {
        ITEM wanted = { 42, 0 };
        ITEM *found = RtlLookupElementGenericTable(&table, &wanted);
        EXPECT(found && found->key == 42 && found->value * 37 % COUNT == 42);
        wanted.key = 4200;
        EXPECT(RtlLookupElementGenericTable(&table, &wanted) == NULL);
    }
    RULE("RtlEnumerateGenericTable function", "every element once, in order") {
        ITEM *item;
        ULONG next = 0;
        for (item = RtlEnumerateGenericTable(&table, TRUE); item; item = RtlEnumerateGenericTable(&table, FALSE))
            EXPECT_EQ(item->key, next++);
        EXPECT_EQ(next, COUNT);
    }
    RULE("RtlEnumerateGenericTableWithoutSplaying function", "the same, and the tree stays as it is") {
        PVOID key = NULL, root = table.TableRoot;
        ITEM *item;
        ULONG next = 0;
        while ((item = RtlEnumerateGenericTableWithoutSplaying(&table, &key)))
            EXPECT_EQ(item->key, next++);
        EXPECT_EQ(next, COUNT);
        EXPECT(table.TableRoot == root);
    }
    RULE("RtlGetElementGenericTable function", "by the order of insertion") {
        for (i = 0; i < COUNT; i += 10) {
            ITEM *item = RtlGetElementGenericTable(&table, i);
            EXPECT(item && item->value == i);
        }
        EXPECT(RtlGetElementGenericTable(&table, COUNT) == NULL);
    }
    RULE("RtlDeleteElementGenericTable function", "gives its memory back to the owner; FALSE where there is none like it") {
        for (i = 0; i < COUNT; i += 2) {
            ITEM item = { i, 0 };
            EXPECT(RtlDeleteElementGenericTable(&table, &item));
            EXPECT(!RtlDeleteElementGenericTable(&table, &item));
            EXPECT(RtlLookupElementGenericTable(&table, &item) == NULL);
        }
        EXPECT_EQ(RtlNumberGenericTableElements(&table), COUNT / 2);
        EXPECT_EQ(blocks, COUNT / 2);
    }
    RULE("RtlDeleteElementGenericTable function", "while it is enumerated: always the first, until it is empty") {
        ITEM *item;
        ULONG last = 0;
        while ((item = RtlEnumerateGenericTable(&table, TRUE))) {
            EXPECT(item->key > last || last == 0);
            last = item->key;
            EXPECT(RtlDeleteElementGenericTable(&table, item));
        }
        EXPECT(RtlIsGenericTableEmpty(&table));
        EXPECT_EQ(blocks, 0);
    }
    (void)driver;
    (void)path;
}

SUITE("Generic tables")
