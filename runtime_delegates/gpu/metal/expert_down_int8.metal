// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _356 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _359 = (THREADS * TOKENS);
constant uint _360 = (_359 * 2u);
constant uint _376 = (THREADS / 2u);
constant uint _397 = (TOKENS * 2u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint max_tokens;
    uint slots;
    uint classes;
    uint accumulate;
};

struct Route
{
    uint route[1];
};

constant uint _500 = (TOKENS * 2u);
constant bool _559 = (TOKENS == 1u);
constant uint _577 = (1u << TOKENS);
constant uint _578 = (_577 - 1u);
constant bool _583 = (TOKENS >= 4u);
constant bool _585 = (_583 && true);
constant int _587 = _585 ? 2 : 4;
constant uint _588 = (uint(_587) + 0u);
constant bool _638 = (TOKENS >= 4u);
constant bool _639 = (_638 && true);
constant int _640 = _639 ? 2 : 4;
constant uint _641 = (uint(_640) + 0u);
constant bool _680 = (TOKENS >= 4u);
constant bool _681 = (_680 && true);
constant int _682 = _681 ? 2 : 4;
constant uint _683 = (uint(_682) + 0u);
constant bool _705 = (TOKENS != 1u);

struct X
{
    float4 x[1];
};

constant bool _877 = (TOKENS >= 4u);
constant bool _878 = (_877 && true);
constant int _879 = _878 ? 2 : 4;
constant uint _880 = (uint(_879) + 0u);
constant uint _902 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _960 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_960, 1u, 1u);

kernel void expert_down_int8(constant Push& p [[buffer(0)]], const device Weights& _96 [[buffer(1)]], const device X& _817 [[buffer(2)]], device Y& _950 [[buffer(3)]], const device Route& _469 [[buffer(4)]], const device Step& _437 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_360];
    do
    {
        uint _432 = gl_WorkGroupID.y * TOKENS;
        uint _439 = _437.step_[0];
        if (_432 >= _439)
        {
            break;
        }
        uint _972 = ((p.cols + 7u) / 8u) * 4u;
        uint _460 = THREADS / p.classes;
        uint _464 = gl_LocalInvocationID.x / _460;
        uint _471 = 4u + _464;
        uint _477 = _464 + 5u;
        uint _492 = (16u + (p.slots * 4u)) + (p.slots * 64u);
        float acc[16];
        for (uint _1336 = 0u; _1336 < _500; )
        {
            acc[_1336] = 0.0;
            _1336++;
            continue;
        }
        uint _511 = gl_LocalInvocationID.x % _460;
        uint bits[4];
        uint tile[4];
        uint4 raw[4][1];
        for (uint _1337 = _511; _1337 < _972; _1337 += _460)
        {
            for (uint _1344 = _469.route[_471]; _1344 < _469.route[_477]; _1344 += _880)
            {
                uint _543 = _469.route[_477] - 1u;
                uint _546 = 16u + (min(_1344, _543) * 4u);
                uint _554 = _469.route[_546] - p.first_expert;
                uint _1395;
                if (_559)
                {
                    _1395 = 1u;
                }
                else
                {
                    _1395 = (_469.route[_546 + uint((_432 < 32u) ? 2 : 3)] >> (_432 & 31u)) & _578;
                }
                bits[0u] = _1395;
                bool _589 = 0u >= _588;
                bool _598;
                if (!_589)
                {
                    _598 = _1344 >= _469.route[_477];
                }
                else
                {
                    _598 = _589;
                }
                bool _606;
                if (!_598)
                {
                    _606 = _554 >= p.experts;
                }
                else
                {
                    _606 = _598;
                }
                if (_606)
                {
                    bits[0u] = 0u;
                }
                uint _624 = gl_WorkGroupID.x * p.tile_vectors;
                tile[0u] = (p.first + (_554 * p.expert_vectors)) + _624;
                uint _1445 = _1344 + 1u;
                uint _1449 = 16u + (min(_1445, _543) * 4u);
                uint _1454 = _469.route[_1449] - p.first_expert;
                uint _1467;
                if (_559)
                {
                    _1467 = 1u;
                }
                else
                {
                    _1467 = (_469.route[_1449 + uint((_432 < 32u) ? 2 : 3)] >> (_432 & 31u)) & _578;
                }
                bits[1u] = _1467;
                bool _1469 = 1u >= _588;
                bool _1475;
                if (!_1469)
                {
                    _1475 = _1445 >= _469.route[_477];
                }
                else
                {
                    _1475 = _1469;
                }
                bool _1482;
                if (!_1475)
                {
                    _1482 = _1454 >= p.experts;
                }
                else
                {
                    _1482 = _1475;
                }
                if (_1482)
                {
                    bits[1u] = 0u;
                }
                tile[1u] = (p.first + (_1454 * p.expert_vectors)) + _624;
                uint _1506 = _1344 + 2u;
                uint _1510 = 16u + (min(_1506, _543) * 4u);
                uint _1515 = _469.route[_1510] - p.first_expert;
                uint _1528;
                if (_559)
                {
                    _1528 = 1u;
                }
                else
                {
                    _1528 = (_469.route[_1510 + uint((_432 < 32u) ? 2 : 3)] >> (_432 & 31u)) & _578;
                }
                bits[2u] = _1528;
                bool _1530 = 2u >= _588;
                bool _1536;
                if (!_1530)
                {
                    _1536 = _1506 >= _469.route[_477];
                }
                else
                {
                    _1536 = _1530;
                }
                bool _1543;
                if (!_1536)
                {
                    _1543 = _1515 >= p.experts;
                }
                else
                {
                    _1543 = _1536;
                }
                if (_1543)
                {
                    bits[2u] = 0u;
                }
                tile[2u] = (p.first + (_1515 * p.expert_vectors)) + _624;
                uint _1567 = _1344 + 3u;
                uint _1571 = 16u + (min(_1567, _543) * 4u);
                uint _1576 = _469.route[_1571] - p.first_expert;
                uint _1589;
                if (_559)
                {
                    _1589 = 1u;
                }
                else
                {
                    _1589 = (_469.route[_1571 + uint((_432 < 32u) ? 2 : 3)] >> (_432 & 31u)) & _578;
                }
                bits[3u] = _1589;
                bool _1591 = 3u >= _588;
                bool _1597;
                if (!_1591)
                {
                    _1597 = _1567 >= _469.route[_477];
                }
                else
                {
                    _1597 = _1591;
                }
                bool _1604;
                if (!_1597)
                {
                    _1604 = _1576 >= p.experts;
                }
                else
                {
                    _1604 = _1597;
                }
                if (_1604)
                {
                    bits[3u] = 0u;
                }
                tile[3u] = (p.first + (_1576 * p.expert_vectors)) + _624;
                bool _642 = 0u < _641;
                bool _649;
                if (_642)
                {
                    _649 = bits[0u] != 0u;
                }
                else
                {
                    _649 = _642;
                }
                if (_649)
                {
                    uint4 _1327[1] = { _96.weights[tile[0u] + _1337] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1327);
                }
                bool _1628 = 1u < _641;
                bool _1634;
                if (_1628)
                {
                    _1634 = bits[1u] != 0u;
                }
                else
                {
                    _1634 = _1628;
                }
                if (_1634)
                {
                    uint4 _1641[1] = { _96.weights[tile[1u] + _1337] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1641);
                }
                bool _1651 = 2u < _641;
                bool _1657;
                if (_1651)
                {
                    _1657 = bits[2u] != 0u;
                }
                else
                {
                    _1657 = _1651;
                }
                if (_1657)
                {
                    uint4 _1664[1] = { _96.weights[tile[2u] + _1337] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1664);
                }
                bool _1674 = 3u < _641;
                bool _1680;
                if (_1674)
                {
                    _1680 = bits[3u] != 0u;
                }
                else
                {
                    _1680 = _1674;
                }
                if (_1680)
                {
                    uint4 _1687[1] = { _96.weights[tile[3u] + _1337] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1687);
                }
                for (uint _1348 = 0u; _1348 < 4u; _1348++)
                {
                    bool _684 = _1348 >= _683;
                    bool _692;
                    if (!_684)
                    {
                        _692 = bits[_1348] == 0u;
                    }
                    else
                    {
                        _692 = _684;
                    }
                    if (_692)
                    {
                        continue;
                    }
                    uint _699 = _1344 + _1348;
                    uint _702 = _699 * 4u;
                    uint _1376;
                    if (_705)
                    {
                        uint _710 = _702 + 18u;
                        int _1354;
                        if (_432 < 32u)
                        {
                            _1354 = int(popcount(_469.route[_710] & ((1u << _432) - 1u)));
                        }
                        else
                        {
                            _1354 = int(popcount(_469.route[_710])) + int(popcount(_469.route[_702 + 19u] & ((1u << (_432 & 31u)) - 1u)));
                        }
                        _1376 = uint(_1354);
                    }
                    else
                    {
                        _1376 = 0u;
                    }
                    uint _1010 = raw[_1348][0].x ^ 2155905152u;
                    float _1033 = as_type<float>((_1010 & 255u) | 1258291200u) - 8388736.0;
                    float _1041 = as_type<float>(((_1010 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1049 = as_type<float>(((_1010 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1057 = as_type<float>((_1010 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1699 = raw[_1348][0].y ^ 2155905152u;
                    float _1703 = as_type<float>((_1699 & 255u) | 1258291200u) - 8388736.0;
                    float _1708 = as_type<float>(((_1699 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1713 = as_type<float>(((_1699 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1717 = as_type<float>((_1699 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1729 = raw[_1348][0].z ^ 2155905152u;
                    float _1733 = as_type<float>((_1729 & 255u) | 1258291200u) - 8388736.0;
                    float _1738 = as_type<float>(((_1729 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1743 = as_type<float>(((_1729 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1747 = as_type<float>((_1729 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1759 = raw[_1348][0].w ^ 2155905152u;
                    float _1763 = as_type<float>((_1759 & 255u) | 1258291200u) - 8388736.0;
                    float _1768 = as_type<float>(((_1759 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1773 = as_type<float>(((_1759 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1777 = as_type<float>((_1759 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1064 = tile[_1348] + _972;
                    uint _1066 = _1337 & 3u;
                    uint _1070 = ((device uint*)&_96.weights[_1064])[_1066] & 65535u;
                    uint _1085 = _1070 & 32767u;
                    uint _1087 = _1085 << uint(13);
                    float _1102 = (_1085 < 1024u) ? (as_type<float>(947912704u | _1087) - 6.103515625e-05) : as_type<float>(_1087 + ((_1085 < 31744u) ? 939524096u : 1879048192u));
                    float _1366;
                    if ((_1070 & 32768u) != 0u)
                    {
                        _1366 = -_1102;
                    }
                    else
                    {
                        _1366 = _1102;
                    }
                    uint _1074 = ((device uint*)&_96.weights[_1064])[_1066] >> uint(16);
                    uint _1121 = _1074 & 32767u;
                    uint _1123 = _1121 << uint(13);
                    float _1138 = (_1121 < 1024u) ? (as_type<float>(947912704u | _1123) - 6.103515625e-05) : as_type<float>(_1123 + ((_1121 < 31744u) ? 939524096u : 1879048192u));
                    float _1367;
                    if ((_1074 & 32768u) != 0u)
                    {
                        _1367 = -_1138;
                    }
                    else
                    {
                        _1367 = _1138;
                    }
                    uint _1429;
                    for (uint _1368 = 0u, _1372 = _1376; _1368 < TOKENS; _1372 = _1429, _1368++)
                    {
                        if (((bits[_1348] >> _1368) & 1u) == 0u)
                        {
                            _1429 = _1372;
                            continue;
                        }
                        float _790 = as_type<float>(_469.route[(_492 + (_699 * 64u)) + _1372]);
                        uint _803 = ((_699 * p.max_tokens) + _1372) * p.x_stride;
                        uint _1153 = (_1337 >> uint(2)) * 2u;
                        uint _824 = _803 + _1153;
                        uint _1790 = _803 + (_1153 + 1u);
                        uint _859 = _1368 * 2u;
                        acc[_859] = fma(spvFMul(_790, _1366), fma(_1717, _817.x[_1790].w, fma(_1713, _817.x[_1790].z, fma(_1708, _817.x[_1790].y, fma(_1703, _817.x[_1790].x, fma(_1057, _817.x[_824].w, fma(_1049, _817.x[_824].z, fma(_1041, _817.x[_824].y, spvFMul(_1033, _817.x[_824].x)))))))), acc[_859]);
                        uint _1874 = _859 + 1u;
                        acc[_1874] = fma(_790 * _1367, fma(_1777, _817.x[_1790].w, fma(_1773, _817.x[_1790].z, fma(_1768, _817.x[_1790].y, fma(_1763, _817.x[_1790].x, fma(_1747, _817.x[_824].w, fma(_1743, _817.x[_824].z, fma(_1738, _817.x[_824].y, _1733 * _817.x[_824].x))))))), acc[_1874]);
                        _1429 = _1372 + uint(1);
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1338 = 0u; _1338 < _356; )
        {
            partial[(_1338 * THREADS) + gl_LocalInvocationID.x] = param[_1338];
            _1338++;
            continue;
        }
        uint _1339;
        _1339 = _376;
        for (; _1339 >= 4u; _1339 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1339)
            {
                for (uint _1341 = 0u; _1341 < _397; )
                {
                    uint _1298 = (_1341 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1298] = spvFAdd(partial[_1298], partial[_1298 + _1339]);
                    _1341++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _894 = gl_LocalInvocationID.x % 8u;
        uint _895 = (gl_WorkGroupID.x * 8u) + _894;
        uint _899 = gl_LocalInvocationID.x / 8u;
        uint _900 = _432 + _899;
        bool _903 = gl_LocalInvocationID.x >= _902;
        bool _912;
        if (!_903)
        {
            _912 = _895 >= p.rows;
        }
        else
        {
            _912 = _903;
        }
        if (_912 || (_900 >= _439))
        {
            break;
        }
        uint _926 = (_900 * p.y_stride) + _895;
        uint _938 = (((_899 * 2u) + (gl_LocalInvocationID.x % 2u)) * THREADS) + (_894 / 2u);
        float _1340;
        if (p.accumulate != 0u)
        {
            _1340 = spvFAdd(partial[_938], _950.y[_926]);
        }
        else
        {
            _1340 = partial[_938];
        }
        _950.y[_926] = _1340;
        break;
    } while(false);
}

