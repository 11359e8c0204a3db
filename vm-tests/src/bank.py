"""Transfers between the accounts of a MariaDB server, one after the other, and what holds of them.

    bank.py open                 makes the accounts
    bank.py work FILE PAUSE      transfers, from the next one on, until it is killed; the last
                                 confirmed number in FILE; a pause of so many seconds after each
    bank.py check                prints the number of transfers, when all is right
"""
import itertools, os, subprocess, sys, time

ACCOUNTS, BALANCE = 50, 1000
CLIENT = ["mariadb", "--batch", "--skip-column-names", "--unbuffered"]

def transfer(n):
    return n * 31 % ACCOUNTS, (n * 17 + 5) % ACCOUNTS, n % 40 + 1

def ask(sql):
    done = subprocess.run(CLIENT + ["--execute", sql], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(map(int, row.split())) for row in done.stdout.splitlines()]

def work(path, pause):
    [(before,)] = ask("select count(*) from bank.transfer")
    client = subprocess.Popen(CLIENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    confirmed = os.open(path, os.O_WRONLY | os.O_CREAT)
    for n in itertools.count(before + 1):
        source, target, amount = transfer(n)
        client.stdin.write(
            f"begin; update bank.account set balance = balance - {amount} where id = {source};"
            f"update bank.account set balance = balance + {amount} where id = {target};"
            f"insert into bank.transfer values ({n}, {source}, {target}, {amount}, repeat('x', 2000));"
            f"commit; select {n};\n")
        client.stdin.flush()
        assert client.stdout.readline() == f"{n}\n", "the server is gone"
        os.pwrite(confirmed, f"{n}\n".encode(), 0)
        time.sleep(pause)

def check():
    balances = [BALANCE] * ACCOUNTS
    found = ask("select number, source, target, amount from bank.transfer order by number")
    for n, row in enumerate(found, 1):
        source, target, amount = transfer(n)
        assert row == (n, source, target, amount), f"transfer {n} is {row}"
        balances[source] -= amount
        balances[target] += amount
    accounts = ask("select id, balance from bank.account order by id")
    assert accounts == list(enumerate(balances)), f"{accounts} are not {balances}"
    print(len(found))

if sys.argv[1] == "open":
    ask("create database bank; use bank;"
        "create table account (id int primary key, balance bigint) engine=innodb;"
        "create table transfer (number bigint primary key, source int, target int, amount int,"
        " note text) engine=innodb;"
        f"insert into account select seq, {BALANCE} from seq_0_to_{ACCOUNTS - 1}")
elif sys.argv[1] == "work":
    work(sys.argv[2], float(sys.argv[3]))
else:
    check()
