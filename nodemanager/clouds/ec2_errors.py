"""What EC2's error codes mean ("Error codes for the Amazon EC2 API" in its documentation)."""

from __future__ import annotations

from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.sorting import Rule


class SubnetFull(QuotaExceeded):
    """The subnet has no address left; another may have."""


class TokenUsed(CloudError):
    """A creation with the same client token and other arguments was accepted before."""


class KeyThere(CloudError):
    """There is a key pair of that name already."""


ERRORS = (
    Rule(Gone, codes=("InvalidInstanceID.NotFound",)),
    Rule(TokenUsed, codes=("IdempotentParameterMismatch",)),
    Rule(KeyThere, codes=("InvalidKeyPair.Duplicate",)),
    Rule(SubnetFull, codes=("InsufficientFreeAddressesInSubnet",)),
    Rule(
        QuotaExceeded,
        codes=(
            "InstanceLimitExceeded",
            "VcpuLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "VolumeLimitExceeded",
            "MaxIOPSLimitExceeded",
            "NetworkInterfaceLimitExceeded",
            "ResourceLimitExceeded",
            "InsufficientAddressCapacity",
            "AddressLimitExceeded",
        ),
    ),
    Rule(
        NoCapacity,
        codes=(
            "InsufficientInstanceCapacity",
            "InsufficientCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientVolumeCapacity",
            "SpotMaxPriceTooLow",
            # "Your requested instance type is not supported in your requested Availability Zone."
            "Unsupported",
        ),
    ),
    Rule(
        RateLimited,
        codes=(
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
            "EC2ThrottledException",
            "SlowDown",
        ),
    ),
    Rule(
        Denied,
        codes=(
            "UnauthorizedOperation",
            "AuthFailure",
            "InvalidClientTokenId",
            "SignatureDoesNotMatch",
            "MissingAuthenticationToken",
            "OptInRequired",
            "Blocked",
            "PendingVerification",
            "OperationNotPermitted",
            "InvalidAMIID*",
            "InvalidAMIName*",
            "InvalidBlockDeviceMapping",
            "InvalidGroup*",
            "InvalidInput",
            "InvalidInstanceID.Malformed",
            "InvalidKeyPair*",
            "KeyPairDoesNotExistError",
            "InvalidParameter*",
            "InvalidPlacementGroup*",
            "InvalidSecurityGroup*",
            "InvalidSubnet*",
            "InvalidUserData*",
            "InvalidVolume*",
            "InvalidVpcID*",
            "MalformedQueryString",
            "Missing*",
            "NoSuchEntity",
            "TagLimitExceeded",
            "UnknownParameter",
            "UnknownVolumeType*",
            "UnsupportedOperation",
            "ValidationError",
            "VPCIdNotSpecified",
        ),
        # libcloud's own, before anything is sent.
        texts=("invalid region",),
    ),
)
