// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Marks what changes on a disk: runs in the kernel at every completed block request, and writes the
// current epoch over the grains that the request may have changed. It must never miss a change in
// silence: what it cannot express in marks it counts as a void.
//
// Two copies are attached (see `stillpoint_a` and `stillpoint_b`). `track/mark_layout.rs` describes
// the same maps to the reader; change both together, and the version in `src/track/pins.rs`.
//
// The kernel's structs below name only the fields that are used; the loader finds their true places
// in the running kernel's type information (CO-RE), so that one object serves every kernel from
// 5.10.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define KERNEL __attribute__((preserve_access_index))
#define INLINE static inline __attribute__((always_inline))
#define FUNCTION __attribute__((noinline))

// include/uapi/linux/bpf.h
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_ARRAY_OF_MAPS 12
#define BPF_MAP_TYPE_HASH_OF_MAPS 13
#define BPF_F_MMAPABLE (1U << 10)
#define BPF_F_INNER_MAP (1U << 12)
#define BPF_FIELD_EXISTS 2
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

// ---- What is read of the kernel (include/linux/blk-mq.h, blk_types.h, blkdev.h, bvec.h).

struct gendisk {
	int major;
	int first_minor;
} KERNEL;

// include/uapi/linux/major.h
#define LOOP_MAJOR 7

struct request_queue {
	struct gendisk *disk; // 5.15 on
} KERNEL;

struct bvec_iter {
	u64 bi_sector;
	u32 bi_size;
} KERNEL;

struct bio {
	struct bio *bi_next;
	struct bvec_iter bi_iter;
} KERNEL;

struct request {
	struct request_queue *q;
	u32 cmd_flags;
	u64 __sector;
	struct bio *bio;
} KERNEL;

struct request___before_5_15 {
	struct gendisk *rq_disk;
} KERNEL;

// include/linux/blk_types.h: enum req_op (req_opf before 6.0). Only numbers that have been the same
// since 4.10 are named; 7 has been WRITE_SAME and ZONE_APPEND, the other zone operations moved too.
enum {
	OP_MASK = 0xff,
	OP_READ = 0,
	OP_WRITE = 1,
	OP_FLUSH = 2,
	OP_DISCARD = 3,
	OP_SECURE_ERASE = 5,
	OP_WRITE_ZEROES = 9,
	OP_FIRST_PASSTHROUGH = 32,
	OP_SCSI_IN = 32, // until 5.13
	OP_DRV_IN = 34,
};

// ---- The maps.

enum {
	PAGE_BYTES = 4096,
	MARKS_PER_PAGE = PAGE_BYTES / 2,   // u16 each
	SUMMARIES_PER_PAGE = PAGE_BYTES / 4, // struct summary each
	NAME_PAGES = 24, // names of cuts, which the programs leave alone
	FIRST_SUMMARIES = 1 + NAME_PAGES,
	// A request counts its bytes in 32 bits, and a grain has 64 KiB or more: it touches at most
	// 4 GiB / (64 KiB * 2048) = 32 pages, and one more when it does not start at a page's first grain.
	MAX_PAGES_PER_RANGE = 34,
	// drivers/nvme/host/core.c and drivers/block/virtio_blk.c allow 256 ranges in one discard.
	MAX_RANGES = 256,
	TRAIL_LENGTH = 8,
};

// Page 0 of a disk's marks. Userspace writes all of it before the programs see the map, and only
// `epoch` and `names` afterwards; the programs write `voids`, `resizes` and `seen` alone.
struct header {
	u32 epoch;
	u32 grain_shift; // a grain has 1 << grain_shift sectors
	u64 grains;
	u64 voids;
	u32 first_marks; // number of the first page of marks
	u64 magic;
	u64 size; // bytes
	u64 diskseq;
	u64 resizes; // how often its capacity was set to another, or its contents with it
	u64 names;   // how many cuts have been named
	u64 for_userspace[7];
	u64 seen; // sectors that writes and discards covered; in a cache line of its own
};
_Static_assert(__builtin_offsetof(struct header, resizes) == 56, "as layout.rs has it");
_Static_assert(__builtin_offsetof(struct header, seen) == 128, "as layout.rs has it");

// One for each page of marks.
struct summary {
	u16 newest; // the newest epoch in that page
	u16 whole;  // an epoch in which all its grains changed
};

// Pages of 4096 bytes: the header, then names of cuts, then summaries, then marks (one u16 a grain:
// the epoch of its last change). The template of every disk's map, which differ in length alone.
struct marks_map {
	int (*type)[BPF_MAP_TYPE_ARRAY];
	int (*max_entries)[1];
	u32 *key;
	u8 (*value)[PAGE_BYTES];
	int (*map_flags)[BPF_F_INNER_MAP | BPF_F_MMAPABLE];
};

// Every tracked disk's marks, by device number (major << 20 | minor).
struct {
	int (*type)[BPF_MAP_TYPE_HASH_OF_MAPS];
	int (*max_entries)[1024];
	u32 *key;
	int (*value_size)[4];
	struct marks_map *values[];
} disks SEC(".maps");

// Nobody reads this. Updating it makes the kernel wait until every program that was running has
// ended (kernel/bpf/syscall.c: maybe_wait_bpf_programs).
struct {
	int (*type)[BPF_MAP_TYPE_ARRAY_OF_MAPS];
	int (*max_entries)[1];
	u32 *key;
	int (*value_size)[4];
	struct marks_map *values[];
} fence SEC(".maps");

// Which requests copy A has seen on this CPU and copy B has not seen yet.
struct trail {
	u64 depth;
	u64 seen[TRAIL_LENGTH];
};

struct {
	int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
	int (*max_entries)[1];
	u32 *key;
	struct trail *value;
} trails SEC(".maps");

// ---- Marking. The two functions are global so that the verifier looks at each of them once,
// whatever loop they are called from; such functions take numbers only, hence the repeated lookups.

INLINE void *page_of(void *map, u32 page)
{
	return bpf_map_lookup_elem(map, &page);
}

FUNCTION int stillpoint_void(u32 dev)
{
	void *map = bpf_map_lookup_elem(&disks, &dev);
	if (!map)
		return 0;
	struct header *header = page_of(map, 0);
	if (header)
		__sync_fetch_and_add(&header->voids, 1);
	return 0;
}

FUNCTION int stillpoint_account(u32 dev, u32 sectors)
{
	void *map = bpf_map_lookup_elem(&disks, &dev);
	if (!map)
		return 0;
	struct header *header = page_of(map, 0);
	if (header)
		__sync_fetch_and_add(&header->seen, sectors);
	return 0;
}

// Marks the grains `lo..=hi` of one page of marks. A mark that is there already is left alone, so
// that a busy disk does not make CPUs fight for cache lines. The mark and the summary are looked at
// separately: either may have been written over by a program that still held an older epoch.
FUNCTION int stillpoint_mark_page(u32 dev, u32 page, u32 lo, u32 hi, u32 epoch)
{
	void *map = bpf_map_lookup_elem(&disks, &dev);
	if (!map)
		return 0;
	struct header *header = page_of(map, 0);
	if (!header)
		return 0;
	struct summary *summaries = page_of(map, FIRST_SUMMARIES + page / SUMMARIES_PER_PAGE);
	if (!summaries)
		goto lost;
	struct summary *summary = &summaries[page % SUMMARIES_PER_PAGE];

	if (lo == 0 && hi >= MARKS_PER_PAGE - 1) {
		if (summary->whole < (u16)epoch)
			*(volatile u16 *)&summary->whole = epoch;
	} else {
		volatile u16 *marks = page_of(map, header->first_marks + page);
		if (!marks)
			goto lost;
		for (u32 i = 0; i < MARKS_PER_PAGE; i++) {
			u64 at = (u64)lo + i;
			// Keeps the compiler from walking a pointer, whose bounds the verifier
			// could not follow.
			asm volatile("" : "+r"(at));
			if (at > hi || at >= MARKS_PER_PAGE)
				break;
			if (marks[at] < (u16)epoch)
				marks[at] = epoch;
		}
	}
	if (summary->newest < (u16)epoch)
		*(volatile u16 *)&summary->newest = epoch;
	return 0;
lost:
	__sync_fetch_and_add(&header->voids, 1);
	return 0;
}

// Marks `bytes` from `sector` on. What lies past the end of the disk cannot be marked: a void.
FUNCTION int stillpoint_mark(u32 dev, u64 sector, u32 bytes)
{
	void *map = bpf_map_lookup_elem(&disks, &dev);
	if (!map || !bytes)
		return 0;
	struct header *header = page_of(map, 0);
	if (!header)
		return 0;
	u32 epoch = *(volatile u32 *)&header->epoch;
	u32 shift = header->grain_shift & 63;
	u64 grains = header->grains;
	u64 first = sector >> shift;
	u64 last = (sector + (((u64)bytes + 511) >> 9) - 1) >> shift;
	if (last >= grains || first > last) {
		__sync_fetch_and_add(&header->voids, 1);
		last = grains - 1;
		if (first > last)
			first = last;
	}
	u32 page = first / MARKS_PER_PAGE;
	u32 last_page = last / MARKS_PER_PAGE;
	u32 lo = first % MARKS_PER_PAGE;
	for (int i = 0; i < MAX_PAGES_PER_RANGE; i++) {
		if (page == last_page) {
			stillpoint_mark_page(dev, page, lo, last % MARKS_PER_PAGE, epoch);
			return 0;
		}
		stillpoint_mark_page(dev, page, lo, MARKS_PER_PAGE - 1, epoch);
		page++;
		lo = 0;
	}
	__sync_fetch_and_add(&header->voids, 1);
	return 0;
}

// ---- What a request means.

INLINE int device_of(struct request *rq, u32 *dev)
{
	struct request___before_5_15 *old = (void *)rq;
	struct gendisk *disk;

	if (__builtin_preserve_field_info(old->rq_disk, BPF_FIELD_EXISTS))
		disk = old->rq_disk;
	else
		disk = rq->q->disk;
	if (!disk)
		return 0;
	*dev = (u32)disk->major << 20 | (u32)disk->first_minor;
	return 1;
}

// A discard's ranges, each a bio of its own: merged discards need not be neighbours. After a
// partial completion the bios that are left have moved on, and what came before was marked then.
INLINE void mark_discard(u32 dev, struct request *rq, u32 bytes)
{
	struct bio *bio = rq->bio;

	if (!bio) {
		stillpoint_mark(dev, rq->__sector, bytes);
		return;
	}
	for (int i = 0; i < MAX_RANGES; i++) {
		stillpoint_mark(dev, bio->bi_iter.bi_sector, bio->bi_iter.bi_size);
		bio = bio->bi_next;
		if (!bio)
			return;
	}
	stillpoint_void(dev);
}

// A failed request may have changed data, so `error` is not looked at. Zone operations and requests
// that a user passed through to the driver do not say what they change.
INLINE void note(struct request *rq, u32 bytes)
{
	u32 op = rq->cmd_flags & OP_MASK;
	u32 dev;

	if (op == OP_READ || op == OP_FLUSH || op == OP_DRV_IN || op == OP_SCSI_IN)
		return;
	if (!device_of(rq, &dev))
		return;
	if (op == OP_WRITE || op == OP_WRITE_ZEROES || op == OP_SECURE_ERASE) {
		if (bytes)
			stillpoint_mark(dev, rq->__sector, bytes);
	} else if (op == OP_DISCARD) {
		if (bytes)
			mark_discard(dev, rq, bytes);
	} else {
		stillpoint_void(dev);
	}
}

// Counts what the block layer counts for the disk's statistics right after this tracepoint, by the
// same rule (block/blk-mq.c: blk_account_io_completion): if an event was lost, for whatever reason,
// the two sums part.
INLINE void account(struct request *rq, u32 bytes)
{
	u32 op = rq->cmd_flags & OP_MASK;
	u32 dev;

	if ((op & 1) && op < OP_FIRST_PASSTHROUGH && rq->bio && device_of(rq, &dev))
		stillpoint_account(dev, bytes >> 9);
}

// ---- The two copies. The kernel skips a program that is already running on this CPU; what it
// skips one copy for, the other still marks. The kernel calls the copies in the order of their
// attachment, A first. A leaves the request's address in the CPU's trail and B takes it out again:
// where B does not find it, A was skipped, and B accounts for the request in its place.
//
// Where B was skipped, an entry is left over until B finds one below it, or until the trail is full
// and its older half is dropped (contexts that can still want theirs are three at most: task, soft
// and hard interrupt). Should a request at the same address come by before that, and A be skipped
// for it, B takes the old entry for it and does not account: that looks like a loss, though B marks
// whatever it finds. The trail only ever decides what is counted.

SEC("tp_btf/block_rq_complete")
int stillpoint_a(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u32 zero = 0;
	struct trail *trail = bpf_map_lookup_elem(&trails, &zero);

	if (trail) {
		u64 depth = trail->depth;
		if (depth >= TRAIL_LENGTH) {
			for (u32 i = 0; i < TRAIL_LENGTH / 2; i++)
				trail->seen[i] = trail->seen[i + TRAIL_LENGTH / 2];
			depth = TRAIL_LENGTH / 2;
		}
		trail->seen[depth] = (u64)rq;
		*(volatile u64 *)&trail->depth = depth + 1;
	}
	note(rq, ctx[2]);
	account(rq, ctx[2]);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int stillpoint_b(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u32 zero = 0;
	struct trail *trail = bpf_map_lookup_elem(&trails, &zero);

	note(rq, ctx[2]);
	if (!trail)
		return 0;
	u64 depth = *(volatile u64 *)&trail->depth;
	for (u32 up = 0; up < TRAIL_LENGTH; up++) {
		u32 at = TRAIL_LENGTH - 1 - up;
		if (at < depth && trail->seen[at] == (u64)rq) {
			*(volatile u64 *)&trail->depth = at;
			return 0;
		}
	}
	account(rq, ctx[2]);
	return 0;
}

// ---- What changes a disk without a request: its end is cut off, and comes back as zeros.
// These programs run when the new capacity holds (block/genhd.c), so that who sees the old count
// saw the disk before. A capacity that is set to what it is says nothing, SCSI does it at every
// look; but of a loop device it means that its file or its offset in it may be others
// (drivers/block/loop.c: loop_set_status, loop_set_capacity).

FUNCTION int stillpoint_resize(u32 dev, u64 sectors)
{
	void *map = bpf_map_lookup_elem(&disks, &dev);
	if (!map)
		return 0;
	struct header *header = page_of(map, 0);
	if (header && (header->size >> 9 != sectors || dev >> 20 == LOOP_MAJOR))
		__sync_fetch_and_add(&header->resizes, 1);
	return 0;
}

INLINE int note_capacity(u64 *ctx)
{
	struct gendisk *disk = (void *)ctx[0];

	stillpoint_resize((u32)disk->major << 20 | (u32)disk->first_minor, ctx[1]);
	return 0;
}

// The second calls the first, but for compilers that have put it in there.
SEC("fexit/set_capacity")
int stillpoint_c(u64 *ctx)
{
	return note_capacity(ctx);
}

SEC("fexit/set_capacity_and_notify")
int stillpoint_d(u64 *ctx)
{
	return note_capacity(ctx);
}

// GPL-compatible: the kernel lets only such programs read its structs.
char _license[] SEC("license") = "Dual MIT/GPL";
