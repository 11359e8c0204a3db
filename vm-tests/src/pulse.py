"""Writes to a file, each time down to its disk, and tells how long it ever had to wait for that.

    pulse.py FOLDER GAP    until it is killed; the longest wait in milliseconds in the file GAP
"""
import os, sys, time

file = os.open(sys.argv[1] + "/pulse", os.O_WRONLY | os.O_CREAT)
longest = 0
while True:
    begun = time.monotonic()
    os.pwrite(file, b"%f\n" % begun, 0)
    os.fsync(file)
    longest = max(longest, time.monotonic() - begun)
    with open(sys.argv[2] + ".new", "w") as gap:
        print(int(longest * 1000), file=gap)
    os.rename(sys.argv[2] + ".new", sys.argv[2])
    time.sleep(0.05)
