/* Generic tables whose tree is balanced. */
#include <check.h>

NTSYSAPI PVOID NTAPI RtlLookupFirstMatchingElementGenericTableAvl(PRTL_AVL_TABLE, PVOID, PVOID *);

typedef struct _ITEM {
    ULONG key;
    ULONG value;
} ITEM;

static LONG blocks;

static RTL_GENERIC_COMPARE_RESULTS NTAPI compare(struct _RTL_AVL_TABLE *table, PVOID first, PVOID second)
{
    ULONG left = ((ITEM *)first)->key, right = ((ITEM *)second)->key;
    return left < right ? GenericLessThan : left > right ? GenericGreaterThan : GenericEqual;
}

static PVOID NTAPI allocate(struct _RTL_AVL_TABLE *table, CLONG bytes)
{
    if (table->TableContext && blocks >= *(LONG *)table->TableContext)
        return NULL;
    blocks++;
    return ExAllocatePoolWithTag(NonPagedPool, bytes, 'lvaT');
}

static VOID NTAPI release(struct _RTL_AVL_TABLE *table, PVOID buffer)
{
    blocks--;
    ExFreePoolWithTag(buffer, 'lvaT');
}

/* The height of a subtree, or -1 where a node's balance or parent is wrong. */
static int height(PRTL_BALANCED_LINKS node)
{
    int left, right;
    if (!node)
        return 0;
    if ((node->LeftChild && node->LeftChild->Parent != node) || (node->RightChild && node->RightChild->Parent != node))
        return -1;
    left = height(node->LeftChild);
    right = height(node->RightChild);
    if (left < 0 || right < 0 || right - left != (signed char)node->Balance || right - left > 1 || left - right > 1)
        return -1;
    return 1 + (left > right ? left : right);
}

static NTSTATUS NTAPI even_value(struct _RTL_AVL_TABLE *table, PVOID data, PVOID context)
{
    return ((ITEM *)data)->value % 2 ? STATUS_NO_MATCH : STATUS_SUCCESS;
}

#define COUNT 101

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    RTL_AVL_TABLE table;
    LONG limit = 1000;
    ULONG i;

    RtlInitializeGenericTableAvl(&table, compare, allocate, release, &limit);
    RULE("RtlInitializeGenericTableAvl function", "an empty table with the owner's context") {
        EXPECT(RtlIsGenericTableEmptyAvl(&table));
        EXPECT_EQ(RtlNumberGenericTableElementsAvl(&table), 0);
        EXPECT_EQ(table.TableContext, &limit);
        EXPECT(RtlEnumerateGenericTableAvl(&table, TRUE) == NULL);
        EXPECT(RtlGetElementGenericTableAvl(&table, 0) == NULL);
    }
    RULE("RtlInsertElementGenericTableAvl function", "copies the data, says that they are new") {
        for (i = 0; i < COUNT; i++) {
            ITEM item = { i * 37 % COUNT, i }, *made;
            BOOLEAN fresh = FALSE;
            made = RtlInsertElementGenericTableAvl(&table, &item, sizeof(item), &fresh);
            EXPECT(made && made != &item && made->key == item.key && fresh);
        }
        EXPECT_EQ(RtlNumberGenericTableElementsAvl(&table), COUNT);
        EXPECT_EQ(blocks, COUNT);
    }
    RULE("RTL_AVL_TABLE structure", "the tree below BalancedRoot is balanced, and its depth is DepthOfTree") {
        EXPECT_EQ(table.BalancedRoot.Parent, &table.BalancedRoot);
        EXPECT_EQ(height(table.BalancedRoot.RightChild), table.DepthOfTree);
        EXPECT(table.DepthOfTree >= 7 && table.DepthOfTree <= 9);
    }
    RULE("RtlInsertElementGenericTableAvl function", "rising keys do not make a list of it") {
        RTL_AVL_TABLE rising;
        ITEM *item;
        RtlInitializeGenericTableAvl(&rising, compare, allocate, release, NULL);
        for (i = 0; i < 1023; i++) {
            ITEM fresh = { i, i };
            RtlInsertElementGenericTableAvl(&rising, &fresh, sizeof(fresh), NULL);
        }
        EXPECT_EQ(rising.DepthOfTree, 10);
        EXPECT_EQ(height(rising.BalancedRoot.RightChild), 10);
        for (i = 0; i < 1023; i += 2) {
            ITEM old = { i, 0 };
            EXPECT(RtlDeleteElementGenericTableAvl(&rising, &old));
        }
        EXPECT_EQ(height(rising.BalancedRoot.RightChild), rising.DepthOfTree);
        while ((item = RtlGetElementGenericTableAvl(&rising, 0)))
            RtlDeleteElementGenericTableAvl(&rising, item);
        EXPECT_EQ(blocks, COUNT);
        EXPECT_EQ(rising.DepthOfTree, 0);
    }
    RULE("RtlInsertElementGenericTableAvl function", "gives the element that is there, and says that it is not new") {
        ITEM item = { 5, 9999 }, *there;
        BOOLEAN fresh = TRUE;
        there = RtlInsertElementGenericTableAvl(&table, &item, sizeof(item), &fresh);
        EXPECT(there && there->value != 9999 && !fresh);
        EXPECT_EQ(RtlNumberGenericTableElementsAvl(&table), COUNT);
    }
    RULE("RtlInsertElementGenericTableAvl function", "null where the owner has no memory") {
        ITEM item = { 100000, 0 };
        BOOLEAN fresh = TRUE;
        limit = COUNT;
        EXPECT(RtlInsertElementGenericTableAvl(&table, &item, sizeof(item), &fresh) == NULL);
        EXPECT(!fresh);
        EXPECT_EQ(RtlNumberGenericTableElementsAvl(&table), COUNT);
        limit = 1000;
    }
    RULE("RtlLookupElementGenericTableAvl function", "the element like it, or null; the tree stays as it is") {
        ITEM wanted = { 42, 0 };
        PVOID root = table.BalancedRoot.RightChild;
        ITEM *found = RtlLookupElementGenericTableAvl(&table, &wanted);
        EXPECT(found && found->key == 42 && found->value * 37 % COUNT == 42);
        wanted.key = 4200;
        EXPECT(RtlLookupElementGenericTableAvl(&table, &wanted) == NULL);
        EXPECT_EQ(table.BalancedRoot.RightChild, root);
    }
    RULE("RtlLookupElementGenericTableFullAvl function", "also where it is, or would be, for RtlInsertElementGenericTableFullAvl") {
        ITEM wanted = { 4200, 1 }, *made;
        PVOID place;
        TABLE_SEARCH_RESULT result;
        BOOLEAN fresh = FALSE;
        EXPECT(RtlLookupElementGenericTableFullAvl(&table, &wanted, &place, &result) == NULL);
        EXPECT_EQ(result, TableInsertAsRight);
        made = RtlInsertElementGenericTableFullAvl(&table, &wanted, sizeof(wanted), &fresh, place, result);
        EXPECT(made && fresh);
        EXPECT(RtlLookupElementGenericTableFullAvl(&table, &wanted, &place, &result) == made);
        EXPECT_EQ(result, TableFoundNode);
        EXPECT(RtlDeleteElementGenericTableAvl(&table, &wanted));
    }
    RULE("RtlEnumerateGenericTableAvl function", "every element once, in order") {
        ITEM *item;
        ULONG next = 0;
        for (item = RtlEnumerateGenericTableAvl(&table, TRUE); item; item = RtlEnumerateGenericTableAvl(&table, FALSE))
            EXPECT_EQ(item->key, next++);
        EXPECT_EQ(next, COUNT);
    }
    RULE("RtlEnumerateGenericTableWithoutSplayingAvl function", "the same, and the caller keeps where it stands") {
        PVOID key = NULL;
        ITEM *item;
        ULONG next = 0;
        while ((item = RtlEnumerateGenericTableWithoutSplayingAvl(&table, &key)))
            EXPECT_EQ(item->key, next++);
        EXPECT_EQ(next, COUNT);
    }
    RULE("RtlLookupFirstMatchingElementGenericTableAvl function", "the element, and where an enumeration goes on") {
        ITEM wanted = { 42, 0 }, *item;
        PVOID key = NULL;
        item = RtlLookupFirstMatchingElementGenericTableAvl(&table, &wanted, &key);
        EXPECT(item && item->key == 42);
        item = RtlEnumerateGenericTableWithoutSplayingAvl(&table, &key);
        EXPECT(item && item->key == 43);
    }
    RULE("RtlGetElementGenericTableAvl function", "by order, from 0") {
        for (i = 0; i < COUNT; i += 10) {
            ITEM *item = RtlGetElementGenericTableAvl(&table, i);
            EXPECT(item && item->key == i);
        }
        EXPECT(RtlGetElementGenericTableAvl(&table, 3) && ((ITEM *)RtlGetElementGenericTableAvl(&table, 3))->key == 3);
        EXPECT(RtlGetElementGenericTableAvl(&table, COUNT) == NULL);
    }
    RULE("RtlEnumerateGenericTableLikeADirectory function", "those that match, from an element on, whatever is deleted between") {
        ITEM from = { 0, 0 }, *item;
        PVOID key = NULL;
        ULONG deletions = 0, seen = 0, next = 0;
        while ((item = RtlEnumerateGenericTableLikeADirectory(&table, even_value, NULL, next, &key, &deletions, &from))) {
            EXPECT(item->value % 2 == 0 && (!seen || item->key > from.key));
            from = *item;
            next = TRUE;
            if (++seen == 10) {
                EXPECT(RtlDeleteElementGenericTableAvl(&table, &from));
                EXPECT(RtlInsertElementGenericTableAvl(&table, &from, sizeof(from), NULL) != NULL);
            }
        }
        EXPECT_EQ(seen, (COUNT + 1) / 2);
    }
    RULE("RtlDeleteElementGenericTableAvl function", "gives its memory back to the owner; FALSE where there is none like it") {
        for (i = 0; i < COUNT; i += 2) {
            ITEM item = { i, 0 };
            EXPECT(RtlDeleteElementGenericTableAvl(&table, &item));
            EXPECT(!RtlDeleteElementGenericTableAvl(&table, &item));
            EXPECT(RtlLookupElementGenericTableAvl(&table, &item) == NULL);
        }
        EXPECT_EQ(RtlNumberGenericTableElementsAvl(&table), COUNT / 2);
        EXPECT_EQ(blocks, COUNT / 2);
        EXPECT_EQ(height(table.BalancedRoot.RightChild), table.DepthOfTree);
    }
    RULE("RtlDeleteElementGenericTableAvl function", "while it is enumerated: the enumeration goes on") {
        ITEM *item;
        ULONG last = 0;
        for (item = RtlEnumerateGenericTableAvl(&table, TRUE); item; item = RtlEnumerateGenericTableAvl(&table, FALSE)) {
            EXPECT(item->key > last || last == 0);
            last = item->key;
            EXPECT(RtlDeleteElementGenericTableAvl(&table, item));
        }
        EXPECT(RtlIsGenericTableEmptyAvl(&table));
        EXPECT_EQ(blocks, 0);
    }
    RULE("RtlDeleteNoSplay function", "takes a node out, and the others stay where they are") {
        RTL_SPLAY_LINKS nodes[3];
        PRTL_SPLAY_LINKS root = &nodes[1];
        for (i = 0; i < 3; i++)
            RtlInitializeSplayLinks(&nodes[i]);
        RtlInsertAsLeftChild(&nodes[1], &nodes[0]);
        RtlInsertAsRightChild(&nodes[1], &nodes[2]);
        RtlDeleteNoSplay(&nodes[1], &root);
        EXPECT(root == &nodes[0] && RtlIsRoot(root));
        EXPECT(RtlRightChild(root) == &nodes[2] && RtlParent(&nodes[2]) == root && !RtlLeftChild(root));
        RtlDeleteNoSplay(&nodes[2], &root);
        EXPECT(root == &nodes[0] && !RtlRightChild(root));
        RtlDeleteNoSplay(&nodes[0], &root);
        EXPECT(root == NULL);
    }
    (void)driver;
    (void)path;
}

SUITE("Balanced tables")
