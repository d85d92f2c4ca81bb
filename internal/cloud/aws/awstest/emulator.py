"""moto's AWS server on a port of the system's choosing, which it prints.

moto makes no network interfaces for a network load balancer and has no filter by their type; both are added: an
interface counts as a load balancer's by its description, as AWS words it. Nor does it start instances from a second
version of a launch template, whose user-data it keeps in another form, or delete versions. What moto works out anew for
each request though it is always the same, is remembered: that was a third of its time. The server ends with its
standard input.
"""
import functools
import os
import sys
import threading

import moto.backends
import moto.core.responses
from moto.core.responses import ActionResult
from moto.core.serialize import XFormedAttributePicker
from moto.core.types import Base64EncodedString
from moto.ec2.models import EC2Backend
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.responses import EC2Response
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.responses import S3Response
from werkzeug.serving import WSGIRequestHandler, make_server


MODULES = frozenset(moto.backends.list_of_moto_modules())  # it lists a directory
moto.backends.list_of_moto_modules = lambda: MODULES
moto.core.responses.method_names_from_class = functools.cache(moto.core.responses.method_names_from_class)


def remembered(possible_keys):
    """The names that an attribute may have: they depend on its shape, and on the class of what has it."""
    known = {}

    def possible(self, context):
        of = (type(self), type(context.obj), context.key, id(context.shape))
        if of not in known:
            known[of] = (tuple(dict.fromkeys(possible_keys(self, context))), context.shape)  # kept, so that its id is
        return known[of][0]

    return possible


XFormedAttributePicker.get_possible_keys = remembered(XFormedAttributePicker.get_possible_keys)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args):
        pass


def kind(interface):
    return "network_load_balancer" if (interface.description or "").startswith("ELB net/") else "interface"


def filtered(interface, name, method_name=None, known=NetworkInterface.get_filter_value):
    return kind(interface) if name == "interface-type" else known(interface, name, method_name)


NetworkInterface.get_filter_value = filtered
NetworkInterface.interface_type = property(kind, lambda interface, value: None)


def user_data(version):
    data = version.data.get("UserData")
    return Base64EncodedString(data) if isinstance(data, str) else data


LaunchTemplateVersion.user_data = property(user_data)


def living_versions(self, *args, known=EC2Backend.describe_launch_template_versions, **kwargs):
    return [(template, v) for template, v in known(self, *args, **kwargs) if not getattr(v, "deleted", False)]


EC2Backend.describe_launch_template_versions = living_versions


def delete_versions(self):
    template = self.ec2_backend.describe_launch_templates(template_ids=[self._get_param("LaunchTemplateId")])[0]
    done, refused = [], []
    for number in self._get_param("Versions", []):
        version = template.get_version(number)
        entry = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": version.number}
        if template.is_default(version):
            refused.append({**entry, "ResponseError": {"Code": "unexpectedError", "Message": "Cannot delete default version"}})
        else:
            version.deleted = True
            done.append(entry)
    return ActionResult({
        "SuccessfullyDeletedLaunchTemplateVersions": done, "UnsuccessfullyDeletedLaunchTemplateVersions": refused,
    })


EC2Response.delete_launch_template_versions = delete_versions


conditional = threading.Lock()  # of a write to S3, whose version moto compares before it stores


def alone(self, *args, known=S3Response.key_response, **kwargs):
    with conditional:
        return known(self, *args, **kwargs)


S3Response.key_response = alone


def end_with_input():
    sys.stdin.read()
    os._exit(0)


server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=Quiet)
print(server.server_port, flush=True)
threading.Thread(target=end_with_input, daemon=True).start()
server.serve_forever()
