"""moto_server, whose S3 decides on a conditional write and carries it out in one, as the real one does.

moto compares the version in one line and stores the object in another, with other threads between. It also lists a
directory of its own for each request, which is a third of its time; that is done once.
"""
import sys
import threading

import moto.backends
from moto.s3.responses import S3Response
from moto.server import main

MODULES = frozenset(moto.backends.list_of_moto_modules())
moto.backends.list_of_moto_modules = lambda: MODULES

one = threading.Lock()


def alone(self, *args, known=S3Response.key_response, **kwargs):
    with one:
        return known(self, *args, **kwargs)


S3Response.key_response = alone
main(sys.argv[1:])
