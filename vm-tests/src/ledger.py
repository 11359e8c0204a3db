"""Writes two ledgers that lie on two disks, record by record, each on its disk before the next
begins; and says of two ledgers whether they are what one instant of that must look like.

    ledger.py write FIRST SECOND PAUSE    until it is killed
    ledger.py check FIRST SECOND          prints the number of records
"""
import hashlib, itertools, os, random, sys, time

FILES = 64

def line(n, name, body):
    text = f"{n} {name} {hashlib.sha256(body).hexdigest()}"
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:16]}\n".encode()

def records(path):
    found = []
    for number, raw in enumerate(open(path, "rb").read().splitlines(keepends=True)):
        text, mark = raw.decode().rstrip("\n").rsplit(" ", 1)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == mark, f"{path}: record {number}"
        n, name, digest = text.split()
        assert int(n) == number, f"{path}: record {n} stands at {number}"
        found.append((name, digest))
    return found

def body(folder, n):
    size = random.choice([100, 4096, 9000, 40000])
    return (random.randbytes(size // 2) + bytes(size // 2)) or b"x"

def durable(path, data):
    with open(path + ".new", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)
    # On FAT the new entry does not say where the file's bytes are until the file is written out
    # again (vfat_rename, fs/fat/namei_vfat.c), and the log's own fsync does not write the folder.
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)

def write(first, second, pause):
    logs = []
    for folder in (first, second):
        os.makedirs(folder + "/files", exist_ok=True)
        logs.append(open(folder + "/log", "ab", buffering=0))
    for n in itertools.count(len(records(first + "/log"))):
        name = f"f{n % FILES}"
        for folder, log in zip((first, second), logs):
            data = body(folder, n)
            durable(f"{folder}/files/{name}", data)
            log.write(line(n, name, data))
            os.fsync(log.fileno())
        time.sleep(pause)

def check(first, second):
    counts = []
    for folder in (first, second):
        found = records(folder + "/log")
        latest = dict(found)
        wrong = [name for name, digest in latest.items()
                 if hashlib.sha256(open(f"{folder}/files/{name}", "rb").read()).hexdigest() != digest]
        # The file of the next record may be there already.
        assert wrong in ([], [f"f{len(found) % FILES}"]), f"{folder}: {wrong} of {len(found)}"
        counts.append(len(found))
    assert counts[0] - counts[1] in (0, 1), f"not of one instant: {counts}"
    print(counts[1])

if sys.argv[1] == "write":
    write(*sys.argv[2:4], float(sys.argv[4]))
else:
    check(*sys.argv[2:4])
