"""Revocation while the gateway runs, as the official SDK meets it."""

from sikkerkey import AccessDeniedError, AuthenticationError, SikkerKey

from machine import Machine
from stage import ThroughTheGateway


class AChangedRegistry(ThroughTheGateway):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.gateway.register, self.machines)

    def sdk(self, machine):
        return SikkerKey(str(self.identity(machine).file))

    def test_a_machine_that_is_disabled_is_refused_from_the_next_request_and_served_once_enabled(self):
        changing = Machine("changing-1")
        sdk = self.sdk(changing)
        self.gateway.register([*self.machines, changing])
        self.assertEqual(sdk.get_secret("sk_api"), "a-very-secret-value")

        self.backend.forget()
        changing.enabled = False
        self.gateway.register([*self.machines, changing])
        with self.refused("machine_disabled"), self.assertRaises(AccessDeniedError):
            sdk.get_secret("sk_api")

        changing.enabled = True
        self.gateway.register([*self.machines, changing])
        self.assertEqual(sdk.get_secret("sk_api"), "a-very-secret-value")
        self.assert_forwarded("GET", "/v1/secret/sk_api", changing)

    def test_a_machine_that_is_removed_is_unknown_from_the_next_request(self):
        leaving = Machine("leaving-1")
        sdk = self.sdk(leaving)
        self.gateway.register([*self.machines, leaving])
        self.assertEqual(sdk.get_secret("sk_api"), "a-very-secret-value")

        self.backend.forget()
        self.gateway.register(self.machines)
        with self.refused("bad_signature"), self.assertRaises(AuthenticationError):
            sdk.get_secret("sk_api")
